#include "launch/train/trained_model.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "core/device/host_view.h"
#include "core/files/checkpoint_pieces.h"
#include "core/files/checkpoint_store.h"
#include "core/files/files.h"
#include "launch/train/checkpointing.h"
#include "launch/train/initial_weights.h"
#include "launch/train/run_reading.h"
#include "launch/train/weights_file.h"

namespace muonp::launch {

namespace {

// read(name, shape, to): the float32 weights of a parameter.
using ReadWeights = std::function<void(const std::string& name, const core::Shape& shape, float* to)>;

void read_value(core::Device& device, const ReadWeights& read, const core::Parameter& p) {
  const core::HostView value(device.queue(), p.value, core::Access::write);
  if (p.value.dtype() == core::Dtype::float32) {
    read(p.name, p.shape, value.data<float>());
  } else {
    std::vector<float> master(static_cast<std::size_t>(p.size()));
    read(p.name, p.shape, master.data());
    std::ranges::transform(master, value.data<core::bfloat16>(), [](float x) { return core::bfloat16(x); });
  }
  value.upload();
}

// Where weights are: a checkpoint, or a file of nothing else.
struct Source {
  std::string path;
  std::int64_t step = 0;
  RunIdentity identity;
  std::set<std::string> parameters;
  ReadWeights read;
};

Source source_of(const std::string& run_directory, const std::string& which) {
  if (core::exists(which) && !core::is_directory(which)) {
    const auto file = std::make_shared<WeightsFile>(which);
    return {which, file->step(), file->identity(), file->names(),
            [file](const auto& name, const auto& shape, float* to) { file->read(name, shape, to); }};
  }
  const core::Checkpoint checkpoint = open_checkpoint(run_directory, which);
  const auto reader = std::make_shared<core::PieceReader>(checkpoint, kStatePrefix);
  return {checkpoint.path(), checkpoint.step(), identity_of(checkpoint), parameters_in(*reader),
          [reader](const std::string& name, const core::Shape& shape, float* to) {
            reader->read_float(name + "/master", shape, core::Dtype::float32, 0, core::element_count(shape), to);
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

TrainedModel load_trained_model(Session& session, const std::string& run_directory, const std::string& checkpoint) {
  const std::string file = run_directory + "/config.resolved.yaml";
  if (!core::exists(file)) core::fail("{}: not there; give the folder of a run that `muonp train` made", file);
  const Source source = source_of(run_directory, checkpoint);
  TrainedModel trained;
  trained.step = source.step;
  trained.identity = source.identity;
  trained.config = load_run_config(file, {}, core::Origin::by_the_program);
  trained.config.data = located_data(trained.config.data, run_directory, source.identity);
  trained.tokenizer = core::open_tokenizer(trained.config.data.tokenizer);
  const RunIdentity mine = run_identity(trained.config, {{"data.tokenizer", describe_tokenizer(*trained.tokenizer)}});
  constexpr std::string_view kCompared[] = {"model.*", "data.tokenizer"};
  const std::string advice = fmt::format("{} and the tokenizer must be those of the checkpoint", file);
  for (const std::string& line : require_same_values(source.path, source.identity, mine.values, kCompared, advice))
    session.log().warn("{}", line);
  trained.model = models::make_model(trained.config.model);
  const core::ParameterList learned = core::trained_of(trained.model->parameters()),
                            frozen = core::frozen_of(trained.model->parameters());
  require_same_parameters(source.path, source.parameters, learned);
  trained.parameters =
      std::make_unique<core::PlainParameters>(session.device(), trained.model->parameters(), trained.config.compute(), 0);
  for (const core::Parameter* p : learned) read_value(session.device(), source.read, *p);
  if (!frozen.empty()) {
    const auto initial = InitialWeights::of_run(trained.config, trained.model->parameters(), source.identity);
    for (const core::Parameter* p : frozen)
      read_value(
          session.device(), [&](const std::string&, const core::Shape&, float* to) { initial.read(*p, 0, p->size(), to); },
          *p);
  }
  return trained;
}

}  // namespace muonp::launch
