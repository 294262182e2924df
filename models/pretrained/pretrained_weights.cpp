#include "models/pretrained/pretrained_weights.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "models/pretrained/hf_names.h"

namespace muonp::models {

namespace {

using core::StoredType;
using Tensor = FolderTensors::Tensor;

constexpr std::int64_t kBlock = std::int64_t{1} << 20;  // elements between two releases of memory
constexpr std::int64_t kSample = 4096;                  // bytes
constexpr const char* kHead = "lm_head.weight";

std::string shortened(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 6;
  if (names.size() <= kShown) return fmt::format("{}", fmt::join(names, ", "));
  return fmt::format("{} and {} more", fmt::join(names.begin(), names.begin() + kShown, ", "), names.size() - kShown);
}

bool is_float(StoredType type) {
  return type == StoredType::f32 || type == StoredType::bf16 || type == StoredType::f16 || type == StoredType::f64;
}

// f(T()) with the type of the elements.
template <class F>
void with_stored_type(StoredType type, const F& f) {
  if (type == StoredType::bf16) return f(core::bfloat16());
  if (type == StoredType::f16) return f(core::float16());
  if (type == StoredType::f64) return f(double());
  MUONP_ASSERT(type == StoredType::f32, "type {}", core::name_of(type));
  f(float());
}

// Element i of data that need not be aligned.
template <class T>
float element(const char* data, std::int64_t i) {
  T value;
  std::memcpy(&value, data + i * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
  return static_cast<float>(value);
}

template <class T>
void read_straight(const char* data, std::int64_t begin, std::int64_t count, float* to) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = element<T>(data, begin + i);
}

// Elements [begin, begin + count) of the [rows, columns] matrix that lies in the file as [columns, rows]. A few rows at a
// time, so that neither side is walked through memory in long strides only.
template <class T>
void read_transposed(const char* data, std::int64_t rows, std::int64_t columns, std::int64_t begin, std::int64_t count,
                     float* to) {
  constexpr std::int64_t kRows = 32;
  const std::int64_t end = begin + count, last = (end + columns - 1) / columns;
  for (std::int64_t first = begin / columns; first < last; first += kRows)
    for (std::int64_t column = 0; column < columns; ++column)
      for (std::int64_t row = first; row < std::min(first + kRows, last); ++row)
        if (const std::int64_t i = row * columns + column; i >= begin && i < end)
          to[i - begin] = element<T>(data, column * rows + row);
}

core::Shape shape_in_file(const core::Parameter& parameter, bool transposed) {
  return transposed ? core::Shape{parameter.shape[1], parameter.shape[0]} : parameter.shape;
}

// One block of a parameter out of one tensor.
void read_block(const Tensor& tensor, const core::Parameter& parameter, bool transposed, std::int64_t begin,
                std::int64_t count, float* to) {
  const auto* data = static_cast<const char*>(tensor.entry->data);
  with_stored_type(tensor.entry->spec.type, [&]<class T>(T) {
    if (transposed)
      read_transposed<T>(data, parameter.shape[0], parameter.shape[1], begin, count, to);
    else
      read_straight<T>(data, begin, count, to);
  });
}

void release_block(const Tensor& tensor, bool transposed, std::int64_t begin, std::int64_t count) {
  const std::int64_t bytes = core::size_of(tensor.entry->spec.type);
  if (transposed)
    tensor.file->release(*tensor.entry, 0, tensor.entry->spec.bytes());
  else
    tensor.file->release(*tensor.entry, begin * bytes, count * bytes);
}

[[noreturn]] void refuse_other_head(const Tensor& head, const Tensor& embedding) {
  core::fail(
      "{}: '{}' differs from '{}', and by the config.json they are one matrix (tie_word_embeddings: true); with false the "
      "head is trained on its own",
      head.file->path(), head.entry->spec.name, embedding.entry->spec.name);
}

bool is_tied(const ModelConfig& model) { return model.is_llama() ? model.llama.tied_head : model.gpt.tied_head; }

bool is_input_embedding(const std::string& name) {
  return name.ends_with("embed_tokens.weight") || name.ends_with("wte.weight");
}

const char* plural(const std::vector<std::string>& names) { return names.size() == 1 ? "" : "s"; }

}  // namespace

void require_float(const core::SafetensorsReader& file, const core::SafetensorsReader::Entry& entry) {
  if (!is_float(entry.spec.type))
    core::fail("{}: the tensor '{}' has the type {}; weights are F32, BF16, F16 or F64", file.path(), entry.spec.name,
               core::name_of(entry.spec.type));
}

void read_elements(const core::SafetensorsReader::Entry& entry, std::int64_t begin, std::int64_t count, float* to) {
  with_stored_type(entry.spec.type,
                   [&]<class T>(T) { read_straight<T>(static_cast<const char*>(entry.data), begin, count, to); });
}

PretrainedWeights::PretrainedWeights(const std::string& folder, const ModelConfig& model,
                                     const core::ParameterList& parameters)
    : files_(folder) {
  const std::string prefix(trunk_prefix(model.family));
  const bool bare = std::ranges::none_of(files_.all(), [&](const auto& t) { return t.first.starts_with(prefix); });
  std::set<std::string> expected;
  std::vector<std::string> missing, extra;
  if (is_tied(model)) expected.insert(kHead);
  for (const core::Parameter* p : parameters) {
    const std::string full = hf_name(model.family, p->name);
    // A folder of the trunk alone, as base models are saved, leaves its prefix out.
    const std::string name = bare && full.starts_with(prefix) ? full.substr(prefix.size()) : full;
    expected.insert(name);
    const Tensor* found = files_.find(name);
    if (found == nullptr) {
      missing.push_back(name);
      continue;
    }
    add(*p, *found, is_transposed(model.family, name));
    if (const Tensor* head = files_.find(kHead); head != nullptr && is_tied(model) && is_input_embedding(name))
      add(*p, *head, false);
  }
  for (const auto& [name, tensor] : files_.all())
    if (!expected.contains(name) && !is_no_weight(model.family, name)) extra.push_back(name);
  if (!missing.empty())
    core::fail("{}: its config.json tells of a model with the tensor{} {}, which no file of the folder has{}", folder,
               plural(missing), shortened(missing),
               missing.back() == kHead ? " (with tie_word_embeddings: true the embedding is the head)" : "");
  if (!extra.empty())
    core::fail("{}: it has the tensor{} {}, which the {} model of its config.json has not", folder, plural(extra),
               shortened(extra), model.family);
}

void PretrainedWeights::add(const core::Parameter& parameter, const Tensor& found, bool transposed) {
  const core::TensorSpec& spec = found.entry->spec;
  const core::Shape expected = shape_in_file(parameter, transposed);
  if (spec.shape != expected)
    core::fail("{}: the tensor '{}' has shape {} there, and {} by the folder's config.json", found.file->path(), spec.name,
               core::to_string(spec.shape), core::to_string(expected));
  require_float(*found.file, *found.entry);
  tensors_.push_back({spec.name, parameter.name, spec.type, transposed});
  Source& source = sources_[parameter.name];
  source.tensors.push_back(found);
  source.transposed = transposed;
}

void PretrainedWeights::read(const core::Parameter& parameter, std::int64_t begin, std::int64_t count, float* to) const {
  const auto found = sources_.find(parameter.name);
  MUONP_ASSERT(found != sources_.end(), "{}", parameter.name);
  const auto& [tensors, transposed] = found->second;
  std::vector<float> again;
  for (std::int64_t done = 0, block = 0; done < count; done += block) {
    block = std::min(kBlock, count - done);
    read_block(tensors[0], parameter, transposed, begin + done, block, to + done);
    for (std::size_t other = 1; other < tensors.size(); ++other) {
      again.resize(static_cast<std::size_t>(block));
      read_block(tensors[other], parameter, transposed, begin + done, block, again.data());
      if (!std::equal(again.begin(), again.end(), to + done)) refuse_other_head(tensors[other], tensors[0]);
    }
    for (const Tensor& tensor : tensors) release_block(tensor, transposed, begin + done, block);
  }
  for (const Tensor& tensor : tensors) tensor.file->require_whole();
}

std::string PretrainedWeights::identity() const {
  std::uint64_t hash = 0;
  for (const PretrainedTensor& t : tensors_) {
    const Tensor& tensor = *files_.find(t.tensor);
    const core::TensorSpec& spec = tensor.entry->spec;
    const std::string header = fmt::format("{} {} {}\n", spec.name, core::name_of(spec.type), core::to_string(spec.shape));
    hash = core::hash_bytes(header.data(), std::ssize(header), hash);
    const std::int64_t bytes = spec.bytes(), sample = std::min(kSample, bytes);
    for (const std::int64_t begin : {std::int64_t{0}, (bytes - sample) / 2, bytes - sample}) {
      hash = core::hash_bytes(static_cast<const char*>(tensor.entry->data) + begin, sample, hash);
      tensor.file->release(*tensor.entry, begin, sample);
    }
    tensor.file->require_whole();
  }
  return fmt::format("{} tensors, hash {:016x}", tensors_.size(), hash);
}

}  // namespace muonp::models
