// Tensors whose elements are spread over ranks, in a checkpoint that opens at any number of ranks. Each rank
// writes the intervals it holds to one safetensors file; a reader assembles any interval of any tensor from
// whatever files have it.
#pragma once

#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/files/checkpoint_store.h"
#include "core/files/safetensors.h"

namespace muonp::core {

// Elements [begin, end) of the flattened (row-major) tensor `name`.
struct TensorPiece {
  std::string name;  // "blocks.0.mlp.up.weight/momentum"
  Shape shape;       // of the whole tensor
  Dtype dtype = Dtype::float32;
  std::int64_t begin = 0, end = 0;
  const void* data = nullptr;  // host memory, (end - begin) elements
};

// Writes one file of pieces, for example "optimizer-00002.safetensors" by rank 2. An element of a tensor is
// written by one rank only; empty pieces are fine. Within the file piece i is the 1-D tensor "<name>@<begin>"
// and __metadata__ has its interval and full shape.
CheckpointEntry write_pieces(const CheckpointPart& part, const std::string& file_name, std::span<const TensorPiece> pieces);

// "optimizer-00002.safetensors"
std::string piece_file_name(std::string_view prefix, int rank);

// Where the pieces lie in a checkpoint's files whose names begin with `prefix`, from the headers of every stride-th of the
// checkpoint's files, counted from `first`: ranks share the opening out, and hand their parts to PieceReader. Error: a file
// of these is no piece file.
std::string index_pieces(const Checkpoint& checkpoint, std::string_view prefix, std::size_t first = 0,
                         std::size_t stride = 1);

// All pieces of a checkpoint's files whose names begin with `prefix`. Files are mapped when something in them is read;
// reading copies the elements asked for and nothing else. Used by one thread.
class PieceReader {
 public:
  // Error: a file of these is no piece file, an element is in two pieces, or pieces of one tensor disagree
  // about its shape or dtype.
  PieceReader(const Checkpoint& checkpoint, std::string_view prefix);
  // `index`: the parts that index_pieces() made of all files. No file is opened.
  PieceReader(const Checkpoint& checkpoint, std::string_view prefix, std::span<const std::string> index);

  bool contains(const std::string& name) const { return tensors_.contains(name); }
  std::vector<std::string> names() const;
  const Shape& shape(const std::string& name) const { return tensor(name).shape; }
  Dtype dtype(const std::string& name) const { return tensor(name).dtype; }

  // Copies elements [begin, end) to `to`. Error, naming the tensor with what is expected and found: it is
  // absent, has another shape or dtype, or some of these elements are in no file.
  void read_raw(const std::string& name, const Shape& shape, Dtype dtype, std::int64_t begin, std::int64_t end,
                void* to) const;
  // The same, converted to float32 (exactly; the stored dtype is float32, bfloat16 or float16, and equal to
  // `dtype`).
  void read_float(const std::string& name, const Shape& shape, Dtype dtype, std::int64_t begin, std::int64_t end,
                  float* to) const;

 private:
  struct StoredPiece {
    std::int64_t begin, end;
    std::int64_t offset;  // of its data in the file
    std::string file;     // its name
  };
  struct Stored {
    Shape shape;
    Dtype dtype;
    std::vector<StoredPiece> pieces;  // by begin, without overlap
  };
  void add(const std::string& index);
  void check_overlaps() const;
  std::string in(const std::string& file) const { return path_ + "/" + file; }
  const MappedFile& opened(const StoredPiece& piece, std::int64_t bytes) const;  // its file, which has all of its bytes
  const Stored& tensor(const std::string& name) const;
  const Stored& expect(const std::string& name, const Shape& shape, Dtype dtype) const;
  template <class Copy>
  void gather(const std::string& name, const Stored& stored, std::int64_t begin, std::int64_t end, const Copy& copy) const;

  std::string path_, prefix_;
  std::map<std::string, Stored> tensors_;
  mutable std::mutex opening_;                      // several threads may read
  mutable std::map<std::string, MappedFile> open_;  // by name; a file that is there stays
};

}  // namespace muonp::core
