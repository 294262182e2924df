#include "launch/train/folder_export.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "core/base/error.h"
#include "core/files/files.h"
#include "launch/train/checkpoint_weights.h"
#include "launch/train/run_identity.h"
#include "launch/train/starting_weights.h"
#include "models/pretrained/folder_files.h"
#include "models/pretrained/hf_config.h"
#include "models/pretrained/hf_names.h"
#include "models/pretrained/peft.h"

namespace muonp::launch {

namespace {

using core::Dtype;
using models::PretrainedTensor;

constexpr std::int64_t kBlock = std::int64_t{1} << 20;  // elements, about

// A folder under a temporary name, which goes with this object until it is given its own.
class NewFolder {
 public:
  explicit NewFolder(std::string path) : path_(std::move(path)) {
    while (path_.size() > 1 && path_.ends_with('/')) path_.pop_back();
    if (core::exists(path_) && !(core::is_directory(path_) && core::list_directory(path_).empty()))
      core::fail("{}: it is there, and nothing is overwritten; valid is a new or an empty folder", path_);
    core::make_directories(core::parent_directory(path_));
    temporary_ = core::temporary_name(path_);
    core::make_directories(temporary_);
  }
  ~NewFolder() {
    if (temporary_.empty()) return;
    try {
      core::remove_tree(temporary_);
    } catch (const core::Error&) {  // what was thrown before this says more
    }
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  std::string file(const std::string& name) const { return temporary_ + "/" + name; }
  void finish() {
    core::sync_directory(temporary_);
    core::rename_path(temporary_, path_);
    temporary_.clear();
  }

 private:
  std::string path_, temporary_;
};

Dtype dtype_of(core::StoredType type) {
  return type == core::StoredType::bf16 ? Dtype::bfloat16 : type == core::StoredType::f16 ? Dtype::float16 : Dtype::float32;
}

// What is written: which parameter under which name, and how.
struct Written {
  PretrainedTensor tensor;
  core::Shape shape;  // of the parameter
  Dtype dtype;
  core::TensorSpec spec() const {
    return {tensor.tensor, core::stored_type_of(dtype), tensor.transposed ? core::Shape{shape[1], shape[0]} : shape};
  }
};

std::vector<PretrainedTensor> tensors_of(const models::ModelConfig& model, const core::ParameterList& parameters) {
  std::vector<PretrainedTensor> tensors;
  for (const core::Parameter* p : parameters) {
    if (p->partner != nullptr) continue;
    const std::string name = models::hf_name(model.family, p->name);
    tensors.push_back({name, p->name, core::StoredType::f32, models::is_transposed(model.family, name)});
  }
  return tensors;
}

std::vector<PretrainedTensor> adapters_of(const models::ModelConfig& model, const core::ParameterList& parameters) {
  std::vector<PretrainedTensor> tensors;
  for (const core::Parameter* p : parameters)
    if (p->partner != nullptr)
      tensors.push_back({models::peft_name(model.family, *p), p->name, core::StoredType::f32, false});
  return tensors;
}

class Export {
 public:
  Export(CheckpointWeights& weights, const std::function<void(std::int64_t, std::int64_t)>& written)
      : weights_(weights), written_(written) {}

  void add(const PretrainedTensor& tensor, const std::optional<Dtype>& dtype) {
    tensors_.push_back({tensor, weights_.shape(tensor.parameter), dtype.value_or(dtype_of(tensor.type))});
    if (tensor.transposed && tensors_.back().shape.size() != 2)
      core::fail("the tensor '{}' is no matrix, and the run's {} say that it lies transposed", tensor.tensor, kTensorsFile);
    total_ += core::element_count(tensors_.back().shape);
  }
  const std::vector<Written>& tensors() const { return tensors_; }

  // The next shard.tensors.size() tensors.
  std::int64_t write(const models::Shard& shard, const std::string& file) {
    const std::map<std::string, std::string> metadata{{"format", "pt"}};  // what transformers asks for
    core::AtomicFile out(file, core::SafetensorsWriter::file_bytes(shard.tensors, metadata));
    core::SafetensorsWriter writer(out, shard.tensors, metadata);
    for (std::size_t i = 0; i < shard.tensors.size(); ++i) write_tensor(tensors_[next_++], writer);
    writer.finish();
    return out.commit().bytes;
  }

 private:
  void write_tensor(const Written& t, core::SafetensorsWriter& writer) {
    const std::int64_t size = core::element_count(t.shape);
    // Rows of what is written, one after the other.
    const std::int64_t row = t.tensor.transposed ? t.shape[0] : 1;
    const std::int64_t step = std::max<std::int64_t>(1, kBlock / row) * row;
    std::vector<float> values;
    for (std::int64_t begin = 0; begin < size; begin += step) {
      const std::int64_t end = std::min(size, begin + step);
      values.resize(static_cast<std::size_t>(end - begin));
      if (t.tensor.transposed)
        read_columns(t, begin / row, end / row, values.data());
      else
        weights_.read(t.tensor.parameter, begin, end, values.data());
      write_values(t, values, writer);
      written_(done_ += end - begin, total_);
    }
  }

  // Columns [first, last) of a matrix, one after the other.
  void read_columns(const Written& t, std::int64_t first, std::int64_t last, float* to) {
    const std::int64_t rows = t.shape[0], columns = t.shape[1];
    std::vector<float> piece(static_cast<std::size_t>(last - first));
    for (std::int64_t r = 0; r < rows; ++r) {
      weights_.read(t.tensor.parameter, r * columns + first, r * columns + last, piece.data());
      for (std::int64_t c = 0; c < last - first; ++c) to[c * rows + r] = piece[static_cast<std::size_t>(c)];
    }
  }

  static void write_values(const Written& t, const std::vector<float>& values, core::SafetensorsWriter& writer) {
    if (t.dtype == Dtype::float32) return writer.write(values.data(), std::ssize(values) * std::int64_t{sizeof(float)});
    if (t.dtype == Dtype::bfloat16) return write_rounded<core::bfloat16>(t, values, writer);
    write_rounded<core::float16>(t, values, writer);
  }

  template <class T>
  static void write_rounded(const Written& t, const std::vector<float>& values, core::SafetensorsWriter& writer) {
    std::vector<T> rounded(values.size());
    std::ranges::transform(values, rounded.begin(), [](float x) { return T(x); });
    for (std::size_t i = 0; i < values.size(); ++i)
      if (std::isfinite(values[i]) && !std::isfinite(static_cast<float>(rounded[i])))
        core::fail("the tensor '{}' has the value {}, which is beyond the range of {}; float32 has it", t.tensor.tensor,
                   values[i], core::name_of(t.dtype));
    writer.write(rounded.data(), std::ssize(rounded) * std::int64_t{sizeof(T)});
  }

  CheckpointWeights& weights_;
  const std::function<void(std::int64_t, std::int64_t)>& written_;
  std::vector<Written> tensors_;
  std::size_t next_ = 0;
  std::int64_t done_ = 0, total_ = 0;
};

// "bfloat16", or nothing where tensors differ.
std::optional<std::string> common_dtype(const std::vector<Written>& tensors) {
  const auto same = [&](const Written& t) { return t.dtype == tensors[0].dtype; };
  if (!std::ranges::all_of(tensors, same)) return {};
  return std::string(core::name_of(tensors[0].dtype));
}

std::string config_json(const models::ModelConfig& model, const std::optional<KeptFolder>& kept,
                        const std::optional<std::string>& dtype) {
  if (!kept) return models::write_hf_config(model, dtype.value_or("float32"));
  return dtype ? models::with_dtype(kept->config, *dtype, kept->folder + "/" + models::kConfigFile) : kept->config;
}

// From where the run keeps them; the run's own tokenizer before the source's.
bool copy_companions(const std::string& run_directory, const std::optional<KeptFolder>& kept, const NewFolder& folder) {
  bool tokenizer = false;
  std::set<std::string> copied;
  const auto copy = [&](const std::string& from, const std::string& name) {
    if (!copied.insert(name).second) return;
    tokenizer = tokenizer || name.starts_with("tokenizer.") || name == "vocab.json";
    core::write_file(folder.file(name), core::read_file(from + "/" + name));
  };
  for (const std::string& own : {run_directory, run_directory + "/tokenizer"})
    if (core::is_directory(own))
      for (const std::string& name : models::companion_files(own)) copy(own, name);
  if (kept)
    for (const std::string& name : models::companion_files(kept->folder)) copy(kept->folder, name);
  return tokenizer;
}

void require_same_model(const core::Checkpoint& checkpoint, const RunConfig& config, const std::string& file) {
  constexpr std::string_view kCompared[] = {"model.*"};
  require_same_values(checkpoint.path(), identity_of(checkpoint), run_identity(config, {}).values, kCompared,
                      file + " must be the checkpoint's");
}

}  // namespace

ExportReport export_folder(const std::string& run_directory, const core::Checkpoint& checkpoint, const std::string& folder,
                           const ExportOptions& options, const std::function<void(std::int64_t, std::int64_t)>& written) {
  const std::string file = run_directory + "/config.resolved.yaml";
  if (!core::exists(file)) core::fail("{}: not there; give the folder of a run that `muonp train` made", file);
  const RunConfig config = load_run_config(file, {}, core::Origin::by_the_program);
  require_same_model(checkpoint, config, file);
  const std::optional<KeptFolder> kept = kept_folder(run_directory);
  const models::LoraConfig& lora = config.model.lora;
  if (options.merge && !lora.on()) core::fail("--merge: {} has no adapters (model.lora) to merge", run_directory);
  const bool adapters = lora.on() && !options.merge;
  const auto model = models::make_model(config.model);
  const core::ParameterList& parameters = model->parameters();
  std::optional<InitialWeights> frozen;
  if (options.merge) frozen.emplace(InitialWeights::of_run(config, parameters, identity_of(checkpoint)));
  CheckpointWeights weights(checkpoint, parameters, frozen);
  require_same_parameters(checkpoint.path(), parameters_in(weights.pieces()), core::trained_of(parameters));
  Export work(weights, written);
  const std::vector<PretrainedTensor> exported = adapters ? adapters_of(config.model, parameters)
                                                 : kept   ? kept->tensors
                                                          : tensors_of(config.model, parameters);
  for (const PretrainedTensor& t : exported) work.add(t, options.dtype);

  const std::optional<std::string> dtype = common_dtype(work.tensors());
  const std::string description = adapters ? models::write_adapter_config(config.model, parameters, config.model.from)
                                           : config_json(config.model, kept, dtype);
  std::vector<core::TensorSpec> specs;
  for (const Written& t : work.tensors()) specs.push_back(t.spec());
  std::vector<models::Shard> shards;
  if (adapters)
    shards.push_back({models::kAdapterFile, specs});
  else
    shards = models::plan_shards(specs, options.shard_bytes);

  NewFolder out(folder);
  ExportReport report{std::ssize(specs), 0, std::ssize(shards), dtype.value_or("mixed types")};
  for (const models::Shard& shard : shards) report.bytes += work.write(shard, out.file(shard.file));
  if (shards.size() > 1) core::write_file(out.file(models::kIndexFile), models::write_index(shards));
  core::write_file(out.file(adapters ? models::kAdapterConfig : models::kConfigFile), description);
  report.tokenizer = copy_companions(run_directory, kept, out);
  out.finish();
  return report;
}

}  // namespace muonp::launch
