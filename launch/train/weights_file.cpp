#include "launch/train/weights_file.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <vector>

#include "core/files/checkpoint_pieces.h"
#include "launch/train/checkpointing.h"

namespace muonp::launch {

namespace {

constexpr std::string_view kMaster = "/master";
constexpr const char* kStep = "muonp_step";
constexpr const char* kIdentity = "muonp_identity";
constexpr std::int64_t kBlock = std::int64_t{1} << 20;  // elements

struct Weight {
  std::string stored;  // the name in the checkpoint
  core::TensorSpec spec;
};

std::vector<Weight> weights_of(const core::PieceReader& reader, core::Dtype dtype) {
  std::vector<Weight> weights;
  for (const std::string& name : reader.names())
    if (name.ends_with(kMaster)) {
      const std::string parameter = name.substr(0, name.size() - kMaster.size());
      weights.push_back({evaluated_tensor(reader, parameter), {parameter, core::stored_type_of(dtype), reader.shape(name)}});
    }
  return weights;
}

template <class T>
void write_as(core::SafetensorsWriter& writer, const std::vector<float>& values) {
  const std::vector<T> rounded(values.begin(), values.end());
  writer.write(rounded.data(), static_cast<std::int64_t>(rounded.size() * sizeof(T)));
}

}  // namespace

std::int64_t weight_elements(const core::Checkpoint& checkpoint) {
  std::int64_t elements = 0;
  for (const Weight& w : weights_of(core::PieceReader(checkpoint, kStatePrefix), core::Dtype::float32))
    elements += core::element_count(w.spec.shape);
  return elements;
}

std::int64_t export_weights(const core::Checkpoint& checkpoint, const std::string& file, core::Dtype dtype,
                            const std::function<void(std::int64_t)>& written) {
  const core::PieceReader reader(checkpoint, kStatePrefix);
  const std::vector<Weight> weights = weights_of(reader, dtype);
  if (weights.empty()) core::fail("{}: the checkpoint has no weights", checkpoint.path());
  std::vector<core::TensorSpec> specs;
  for (const Weight& w : weights) specs.push_back(w.spec);
  // "format" is what Hugging Face's loaders ask for.
  const std::map<std::string, std::string> metadata{
      {"format", "pt"}, {kStep, std::to_string(checkpoint.step())}, {kIdentity, to_json(identity_of(checkpoint))}};
  core::AtomicFile out(file, core::SafetensorsWriter::file_bytes(specs, metadata));
  core::SafetensorsWriter writer(out, specs, metadata);
  std::int64_t done = 0;
  for (const Weight& w : weights) {
    const std::int64_t size = core::element_count(w.spec.shape);
    for (std::int64_t begin = 0; begin < size; begin += kBlock) {
      const std::int64_t end = std::min(size, begin + kBlock);
      std::vector<float> values(static_cast<std::size_t>(end - begin));
      reader.read_float(w.stored, w.spec.shape, core::Dtype::float32, begin, end, values.data());
      if (dtype == core::Dtype::float32)
        write_as<float>(writer, values);
      else
        write_as<core::bfloat16>(writer, values);
      done += end - begin;
      if (written) written(done);
    }
  }
  writer.finish();
  return out.commit().bytes;
}

std::int64_t WeightsFile::step() const {
  const auto found = reader_.metadata().find(kStep);
  std::int64_t step = 0;
  if (found != reader_.metadata().end())
    std::from_chars(found->second.data(), found->second.data() + found->second.size(), step);
  return step;
}

RunIdentity WeightsFile::identity() const {
  const auto found = reader_.metadata().find(kIdentity);
  return found == reader_.metadata().end() ? RunIdentity() : identity_from_json(found->second, reader_.path());
}

std::set<std::string> WeightsFile::names() const {
  std::set<std::string> names;
  for (const auto& entry : reader_.entries()) names.insert(entry.spec.name);
  return names;
}

void WeightsFile::read(const std::string& name, const core::Shape& shape, std::int64_t begin, std::int64_t count,
                       float* to) const {
  const auto* entry = reader_.find(name);
  if (entry == nullptr) core::fail("{} has no tensor '{}'", reader_.path(), name);
  if (entry->spec.shape != shape)
    core::fail("{}: tensor '{}' has shape {}, this model needs {}", reader_.path(), name, core::to_string(entry->spec.shape),
               core::to_string(shape));
  if (entry->spec.type == core::StoredType::f32) {
    std::memcpy(to, static_cast<const char*>(entry->data) + 4 * begin, static_cast<std::size_t>(4 * count));
  } else if (entry->spec.type == core::StoredType::bf16) {
    std::vector<core::bfloat16> values(static_cast<std::size_t>(count));
    std::memcpy(values.data(), static_cast<const char*>(entry->data) + 2 * begin, static_cast<std::size_t>(2 * count));
    std::ranges::transform(values, to, [](core::bfloat16 x) { return static_cast<float>(x); });
  } else {
    core::fail("{}: tensor '{}' has dtype {}; weights are F32 or BF16", reader_.path(), name,
               core::name_of(entry->spec.type));
  }
  reader_.require_whole();
}

}  // namespace muonp::launch
