#include "launch/train/trained_model.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "core/device/blas.h"
#include "core/device/host_view.h"
#include "core/files/checkpoint_pieces.h"
#include "core/files/checkpoint_store.h"
#include "core/files/files.h"
#include "dist/comm/agreement.h"
#include "launch/train/checkpointing.h"
#include "launch/train/initial_weights.h"
#include "launch/train/run_reading.h"
#include "launch/train/weights_file.h"
#include "models/pretrained/hf_config.h"
#include "models/pretrained/pretrained_weights.h"

namespace muonp::launch {

namespace {

constexpr const char* kResolved = "/config.resolved.yaml";

// Straight into the parameter where it is float32 in the host's memory; else through blocks.
void read_value(core::Device& device, const core::WeightFiller& read, const core::Parameter& p) {
  constexpr std::int64_t kBlock = std::int64_t{1} << 20;  // elements
  const core::HostView value(device.queue(), p.value, core::Access::write);
  if (p.value.dtype() == core::Dtype::float32) {
    read(p, 0, p.size(), value.data<float>());
  } else {
    std::vector<float> block(static_cast<std::size_t>(std::min(kBlock, p.size())));
    for (std::int64_t begin = 0; begin < p.size(); begin += kBlock) {
      const std::int64_t count = std::min(kBlock, p.size() - begin);
      read(p, begin, count, block.data());
      std::transform(block.begin(), block.begin() + count, value.data<core::bfloat16>() + begin,
                     [](float x) { return core::bfloat16(x); });
    }
  }
  value.upload();
}

// Where weights are: a checkpoint, or a file of nothing else.
struct Source {
  std::string path;
  std::int64_t step = 0;
  RunIdentity identity;
  std::set<std::string> parameters;
  core::WeightFiller read;
};

Source source_of(const std::string& run_directory, const std::string& which) {
  if (core::exists(which) && !core::is_directory(which)) {
    const auto file = std::make_shared<WeightsFile>(which);
    return {which, file->step(), file->identity(), file->names(),
            [file](const core::Parameter& p, std::int64_t begin, std::int64_t count, float* to) {
              file->read(p.name, p.shape, begin, count, to);
            }};
  }
  const core::Checkpoint checkpoint = open_checkpoint(run_directory, which);
  const auto reader = std::make_shared<core::PieceReader>(checkpoint, kStatePrefix);
  return {checkpoint.path(), checkpoint.step(), identity_of(checkpoint), parameters_in(*reader),
          [reader](const core::Parameter& p, std::int64_t begin, std::int64_t count, float* to) {
            reader->read_float(evaluated_tensor(*reader, p.name), p.shape, core::Dtype::float32, begin, begin + count, to);
          }};
}

}  // namespace

core::Checkpoint open_checkpoint(const std::string& run_directory, const std::string& which) {
  const core::CheckpointStore store(run_directory + "/checkpoints");
  if (which != "latest") return store.open(which);
  std::string refused;
  auto latest = store.latest([&](const std::string& why) { refused += "\n  " + why; });
  if (!latest)
    core::fail("{}: no {}checkpoint to read the weights from{}", store.directory(), refused.empty() ? "" : "intact ",
               refused);
  return *std::move(latest);
}

std::vector<std::int32_t> stop_tokens_of_run(const std::string& folder, const std::string& run_directory,
                                             const core::Tokenizer& tokenizer) {
  std::vector<std::int32_t> ids;
  for (const std::string& place : {folder, run_directory + "/pretrained"})
    if (ids.empty() && !place.empty()) ids = read_stop_tokens(place);
  if (tokenizer.end() >= 0 && std::ranges::find(ids, tokenizer.end()) == ids.end()) ids.push_back(tokenizer.end());
  return ids;
}

namespace {

// Warnings are said once.
using Warn = std::function<void(const std::string&)>;

void make_model(TrainedModel& trained, core::Device& device, const ModelSource& source) {
  if (!source.compute.empty()) trained.config.parallel.compute = source.compute;
  const core::Dtype compute = trained.config.compute();
  if (compute == core::Dtype::bfloat16)
    if (const std::string why = core::product_refusal(device.queue(), compute); !why.empty())
      core::fail("{}: bfloat16: {}; --compute float32 works everywhere", source.path, why);
  trained.model = models::make_model(trained.config.model, device.kind());
  trained.parameters = std::make_unique<core::PlainParameters>(device, trained.model->parameters(), compute);
}

TrainedModel open_run(core::Device& device, const ModelSource& from, const Warn& warn) {
  const std::string file = from.path + kResolved;
  const Source source = source_of(from.path, from.checkpoint);
  TrainedModel trained;
  trained.is_run = true;
  trained.step = source.step;
  trained.identity = source.identity;
  trained.config = load_run_config(file, {}, core::Origin::by_the_program);
  trained.config.data = located_data(trained.config.data, from.path, source.identity);
  trained.tokenizer = core::open_tokenizer(trained.config.data.tokenizer);
  const RunIdentity mine = run_identity(trained.config, {{"data.tokenizer", describe_tokenizer(*trained.tokenizer)}});
  constexpr std::string_view kCompared[] = {"model.*", "data.tokenizer"};
  const std::string advice = fmt::format("{} and the tokenizer must be those of the checkpoint", file);
  for (const std::string& line : require_same_values(source.path, source.identity, mine.values, kCompared, advice))
    warn(line);
  trained.stop_tokens = stop_tokens_of_run("", from.path, *trained.tokenizer);
  make_model(trained, device, from);
  const core::ParameterList all = trained.model->parameters(), frozen = core::frozen_of(all);
  require_same_parameters(source.path, source.parameters, core::trained_of(all));
  for (const core::Parameter* p : core::trained_of(all)) read_value(device, source.read, *p);
  if (!frozen.empty()) {
    const auto initial = InitialWeights::of_run(trained.config, all, source.identity);
    for (const core::Parameter* p : frozen) read_value(device, std::bind_front(&InitialWeights::read, &initial), *p);
  }
  return trained;
}

TrainedModel open_folder(core::Device& device, const ModelSource& from) {
  constexpr std::int64_t kRowsOfLogits = 512;  // at once
  if (from.checkpoint != "latest")
    core::fail("--checkpoint: {} is a Hugging Face folder, which has no checkpoints", from.path);
  TrainedModel trained;
  trained.config.model = models::read_hf_config(from.path);
  trained.config.model.llama.head_chunk_rows = trained.config.model.gpt.head_chunk_rows = kRowsOfLogits;
  trained.config.data.tokenizer = from.path;
  trained.config.data.sequence = std::min(trained.config.data.sequence, trained.config.model.context());
  trained.tokenizer = core::open_tokenizer(from.path);
  trained.stop_tokens = read_stop_tokens(from.path);
  if (trained.stop_tokens.empty() && trained.tokenizer->end() >= 0) trained.stop_tokens = {trained.tokenizer->end()};
  make_model(trained, device, from);
  const models::PretrainedWeights weights(from.path, trained.config.model, trained.model->parameters());
  for (const core::Parameter* p : trained.model->parameters())
    read_value(device, std::bind_front(&models::PretrainedWeights::read, &weights), *p);
  return trained;
}

TrainedModel open_either(core::Device& device, const ModelSource& from, const Warn& warn) {
  if (core::exists(from.path + kResolved)) return open_run(device, from, warn);
  if (core::exists(from.path + "/" + models::kConfigFile)) return open_folder(device, from);
  core::fail("{}: neither {} nor {} is there; give the folder of a run that `muonp train` made, or a Hugging Face folder",
             from.path, kResolved + 1, models::kConfigFile);
}

}  // namespace

TrainedModel open_trained_model(Session& session, const ModelSource& source) {
  TrainedModel trained;
  dist::run_on_all(session.communicator(), [&] {
    trained = open_either(session.device(), source, [&](const std::string& line) {
      if (session.rank() == 0) session.log().warn("{}", line);
    });
  });
  return trained;
}

Subject subject_of(Session& session, const TrainedModel& trained) {
  return {.device = session.device(),
          .communicator = session.communicator(),
          .model = *trained.model,
          .tokenizer = trained.tokenizer,
          .stop_tokens = trained.stop_tokens,
          .compute = trained.config.compute()};
}

}  // namespace muonp::launch
