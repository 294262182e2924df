#include "core/files/checkpoint_pieces.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "core/base/error.h"
#include "core/base/remember.h"
#include "core/files/strict_json.h"

namespace muonp::core {
namespace {

using Json = nlohmann::json;

std::string key_of(const TensorPiece& piece) { return fmt::format("{}@{}", piece.name, piece.begin); }

Dtype dtype_of_stored(const SafetensorsReader& file, const TensorSpec& spec) {
  for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16, Dtype::float16, Dtype::int32})
    if (stored_type_of(dtype) == spec.type) return dtype;
  fail("{}: tensor '{}' has dtype {}, which no checkpoint of this program has", file.path(), spec.name, name_of(spec.type));
}

// Not more than 2^62 elements, so that sums and products of intervals cannot overflow.
bool possible(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t d : shape)
    if (d < 0 || __builtin_mul_overflow(count, d, &count) || count > std::int64_t{1} << 62) return false;
  return true;
}

// Error without a file's name, which its caller does not need.
std::int64_t count_of(const Json& value) {
  if (!is_count(value)) fail("no count");
  return value.get<std::int64_t>();
}

const Json& member(const Json& json, const char* key) {
  if (!json.is_object() || !json.contains(key)) fail("no {}", key);
  return json.at(key);
}

Shape shape_of(const Json& json) {
  if (!json.is_array()) fail("no list");
  Shape shape;
  for (const Json& dimension : json) shape.push_back(count_of(dimension));
  return shape;
}

struct Extent {
  std::int64_t begin, end;
  Shape shape;
};

Extent extent_of(const SafetensorsReader& file, const TensorSpec& spec) {
  const auto found = file.metadata().find(spec.name);
  if (found == file.metadata().end())
    fail("{}: tensor '{}' is no piece of a checkpoint (its interval is not in __metadata__)", file.path(), spec.name);
  try {
    const Json json = parse_strict_json(found->second);
    Extent extent{count_of(member(json, "begin")), count_of(member(json, "end")), shape_of(member(json, "shape"))};
    const bool inside = possible(extent.shape) && extent.begin <= extent.end && extent.end <= element_count(extent.shape);
    if (inside && spec.shape == Shape{extent.end - extent.begin} && spec.name.ends_with(fmt::format("@{}", extent.begin)))
      return extent;
  } catch (const Error&) {
    // falls through to the message below
  }
  fail("{}: tensor '{}' of shape {} has the impossible interval {}", file.path(), spec.name, to_string(spec.shape),
       found->second);
}

template <class T>
void widen(const char* from, std::int64_t count, float* to) {
  for (std::int64_t i = 0; i < count; ++i) {
    T value;  // the file need not be aligned
    std::memcpy(&value, from + i * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
    to[i] = static_cast<float>(value);
  }
}

}  // namespace

std::string piece_file_name(std::string_view prefix, int rank) { return fmt::format("{}-{:05}.safetensors", prefix, rank); }

CheckpointEntry write_pieces(const CheckpointPart& part, const std::string& file_name, std::span<const TensorPiece> pieces) {
  std::vector<TensorSpec> specs;
  std::map<std::string, std::string> metadata;
  std::vector<const TensorPiece*> written;
  for (const TensorPiece& p : pieces) {
    MUONP_ASSERT(p.begin >= 0 && p.begin <= p.end && p.end <= element_count(p.shape), "[{}, {}) of {} {}", p.begin, p.end,
                 p.name, to_string(p.shape));
    if (p.begin == p.end && element_count(p.shape) > 0) continue;
    specs.push_back({key_of(p), stored_type_of(p.dtype), {p.end - p.begin}});
    metadata[key_of(p)] = Json{{"begin", p.begin}, {"end", p.end}, {"shape", p.shape}}.dump();
    written.push_back(&p);
  }
  return part.add_file(file_name, SafetensorsWriter::file_bytes(specs, metadata), [&](AtomicFile& file) {
    SafetensorsWriter writer(file, specs, metadata);
    for (const TensorPiece* p : written) writer.write(p->data, (p->end - p->begin) * size_of(p->dtype));
    writer.finish();
  });
}

// [["state-00000.safetensors", name, dtype, shape, begin, end, offset], ...]
std::string index_pieces(const Checkpoint& checkpoint, std::string_view prefix, std::size_t first, std::size_t stride) {
  Json index = Json::array();
  for (std::size_t i = first; i < checkpoint.entries().size(); i += stride) {
    const std::string& name = checkpoint.entries()[i].name;
    if (!name.starts_with(prefix)) continue;
    const SafetensorsReader file(checkpoint.path() + "/" + name);
    for (const SafetensorsReader::Entry& entry : file.entries()) {
      const Extent extent = extent_of(file, entry.spec);
      index.push_back({name, entry.spec.name.substr(0, entry.spec.name.rfind('@')),
                       static_cast<int>(dtype_of_stored(file, entry.spec)), extent.shape, extent.begin, extent.end,
                       file.offset(entry)});
    }
  }
  return index.dump();
}

PieceReader::PieceReader(const Checkpoint& checkpoint, std::string_view prefix)
    : PieceReader(checkpoint, prefix, std::vector{index_pieces(checkpoint, prefix)}) {}

PieceReader::PieceReader(const Checkpoint& checkpoint, std::string_view prefix, std::span<const std::string> index)
    : path_(checkpoint.path()), prefix_(prefix) {
  for (const std::string& part : index) add(part);
  for (auto& [name, stored] : tensors_)
    std::ranges::sort(stored.pieces, {}, [](const StoredPiece& p) { return std::tuple(p.begin, p.end, p.file); });
  check_overlaps();
}

void PieceReader::check_overlaps() const {
  for (const auto& [name, stored] : tensors_)
    for (std::size_t i = 1; i < stored.pieces.size(); ++i) {
      const StoredPiece &before = stored.pieces[i - 1], &piece = stored.pieces[i];
      if (piece.begin < before.end)
        fail("element {} of tensor '{}' is in two pieces, in {} and in {}", piece.begin, name, in(before.file),
             in(piece.file));
    }
}

void PieceReader::add(const std::string& index) {
  for (const Json& piece : Json::parse(index)) {
    const std::string file = piece.at(0), name = piece.at(1);
    const auto dtype = static_cast<Dtype>(piece.at(2).get<int>());
    const Shape shape = piece.at(3);
    const auto [place, is_new] = tensors_.try_emplace(name, Stored{shape, dtype, {}});
    Stored& stored = place->second;
    if (stored.shape != shape || stored.dtype != dtype)
      fail("tensor '{}' is {} {} in {} but {} {} in {}", name, name_of(stored.dtype), to_string(stored.shape),
           in(stored.pieces.front().file), name_of(dtype), to_string(shape), in(file));
    stored.pieces.push_back({piece.at(4), piece.at(5), piece.at(6), file});
  }
}

const MappedFile& PieceReader::opened(const StoredPiece& piece, std::int64_t bytes) const {
  const auto open = [&] { return MappedFile(in(piece.file)); };
  const MappedFile& file = [&]() -> const MappedFile& {
    const std::lock_guard lock(opening_);
    return remember(open_, piece.file, open);
  }();
  if (piece.offset + bytes > file.size())
    fail("{} was truncated: it has {} bytes, a tensor in it ends at {}", file.path(), file.size(), piece.offset + bytes);
  return file;
}

std::vector<std::string> PieceReader::names() const {
  std::vector<std::string> result;
  for (const auto& [name, stored] : tensors_) result.push_back(name);
  return result;
}

const PieceReader::Stored& PieceReader::tensor(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) fail("the checkpoint {} has no tensor '{}' in its {}* files", path_, name, prefix_);
  return found->second;
}

const PieceReader::Stored& PieceReader::expect(const std::string& name, const Shape& shape, Dtype dtype) const {
  const Stored& stored = tensor(name);
  if (stored.shape != shape)
    fail("tensor '{}' of the checkpoint {} has shape {}, this run needs {}", name, path_, to_string(stored.shape),
         to_string(shape));
  if (stored.dtype != dtype)
    fail("tensor '{}' of the checkpoint {} has dtype {}, this run needs {}", name, path_, name_of(stored.dtype),
         name_of(dtype));
  return stored;
}

template <class Copy>
void PieceReader::gather(const std::string& name, const Stored& stored, std::int64_t begin, std::int64_t end,
                         const Copy& copy) const {
  MUONP_ASSERT(begin >= 0 && begin <= end && end <= element_count(stored.shape), "[{}, {}) of '{}' {}", begin, end, name,
               to_string(stored.shape));
  const std::int64_t bytes = size_of(stored.dtype);
  auto piece = std::upper_bound(stored.pieces.begin(), stored.pieces.end(), begin,
                                [](std::int64_t at, const StoredPiece& p) { return at < p.end; });
  for (std::int64_t at = begin; at < end;) {
    if (piece == stored.pieces.end() || piece->begin > at) {
      const std::int64_t next = piece == stored.pieces.end() ? end : std::min(end, piece->begin);
      fail("elements [{}, {}) of tensor '{}' {} are in no {}* file of the checkpoint {}", at, next, name,
           to_string(stored.shape), prefix_, path_);
    }
    const std::int64_t stop = std::min(end, piece->end);
    const MappedFile& file = opened(*piece, (piece->end - piece->begin) * bytes);
    copy(file.data() + piece->offset + (at - piece->begin) * bytes, at - begin, stop - at);
    file.require_whole();
    at = stop;
    ++piece;
  }
}

void PieceReader::read_raw(const std::string& name, const Shape& shape, Dtype dtype, std::int64_t begin, std::int64_t end,
                           void* to) const {
  const std::int64_t bytes = size_of(dtype);
  gather(name, expect(name, shape, dtype), begin, end, [&](const char* from, std::int64_t at, std::int64_t count) {
    std::memcpy(static_cast<char*>(to) + at * bytes, from, static_cast<std::size_t>(count * bytes));
  });
}

void PieceReader::read_float(const std::string& name, const Shape& shape, Dtype dtype, std::int64_t begin, std::int64_t end,
                             float* to) const {
  MUONP_ASSERT(dtype != Dtype::int32, "'{}' read as floats", name);
  gather(name, expect(name, shape, dtype), begin, end, [&](const char* from, std::int64_t at, std::int64_t count) {
    if (dtype == Dtype::float32) std::memcpy(to + at, from, static_cast<std::size_t>(count) * sizeof(float));
    if (dtype == Dtype::bfloat16) widen<bfloat16>(from, count, to + at);
    if (dtype == Dtype::float16) widen<float16>(from, count, to + at);
  });
}

}  // namespace muonp::core
