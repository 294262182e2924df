// The safetensors file format (https://huggingface.co/docs/safetensors): an 8-byte little-endian header
// length, a JSON header that names every tensor with its element type, shape and byte interval, then the
// data. docs/checkpoints.md describes it byte for byte.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/dtype.h"
#include "core/base/shape.h"
#include "core/files/files.h"
#include "core/files/mapped_file.h"

namespace muonp::core {

// Element types by their names in the file. The last group is read only.
enum class StoredType : std::uint8_t {
  f32,
  bf16,
  f16,
  i32,
  i64,
  u64,
  f64,
  u32,
  i16,
  u16,
  i8,
  u8,
  boolean,
  f8_e4m3,
  f8_e5m2
};
std::int64_t size_of(StoredType type);
std::string_view name_of(StoredType type);  // "F32"
StoredType stored_type_of(Dtype dtype);

struct TensorSpec {
  std::string name;
  StoredType type = StoredType::f32;
  Shape shape;
  std::int64_t bytes() const { return element_count(shape) * size_of(type); }
};

// Writes one file as a stream: the header at construction, then the tensors' data in the order of `tensors`,
// in any number of parts.
class SafetensorsWriter {
 public:
  // Names must differ; "__metadata__" is reserved. `file` must outlive the writer and be new.
  SafetensorsWriter(AtomicFile& file, const std::vector<TensorSpec>& tensors,
                    const std::map<std::string, std::string>& metadata = {});
  void write(const void* data, std::int64_t bytes);
  void finish() const;  // asserts that every byte announced was written; the caller commits the file

  // Size of the whole file, for AtomicFile's expected_bytes.
  static std::int64_t file_bytes(const std::vector<TensorSpec>& tensors,
                                 const std::map<std::string, std::string>& metadata = {});

 private:
  AtomicFile& file_;
  std::int64_t remaining_ = 0;
};

// Memory-maps a file and checks all of it that can be checked without the data: header length against file
// size, JSON, known types, shape × type = bytes, intervals that cover the data without hole or overlap, no
// name twice. Anything else is an Error that names the file, the tensor and the defect. Data are not read
// before they are asked for.
class SafetensorsReader {
 public:
  explicit SafetensorsReader(const std::string& path);

  struct Entry {
    TensorSpec spec;
    const void* data;  // into the mapping; aligned to its element size only if the file's writer aligned it
  };
  const std::vector<Entry>& entries() const { return entries_; }  // in order of their data
  const Entry* find(const std::string& name) const;               // null if absent
  std::int64_t offset(const Entry& entry) const {                 // of its data in the file
    return static_cast<const char*>(entry.data) - file_.data();
  }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& path() const { return file_.path(); }
  // After reading data: MappedFile::require_whole().
  void require_whole() const { file_.require_whole(); }
  // Of the data that an entry begins with, MappedFile::release().
  void release(const Entry& entry, std::int64_t begin, std::int64_t count) const {
    file_.release(offset(entry) + begin, count);
  }

 private:
  MappedFile file_;
  std::vector<Entry> entries_;
  std::map<std::string, std::size_t> index_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace muonp::core
