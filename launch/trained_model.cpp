#include "launch/trained_model.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "core/checkpoint_pieces.h"
#include "core/checkpoint_store.h"
#include "core/files.h"
#include "core/host_view.h"
#include "launch/checkpointing.h"
#include "launch/weights_file.h"

namespace muonp::launch {

namespace {

core::Checkpoint open_checkpoint(const std::string& run_directory, const std::string& which) {
  const core::CheckpointStore store(run_directory + "/checkpoints");
  if (which != "latest") return store.open(which);
  std::string refused;
  auto latest = store.latest([&](const std::string& why) { refused += "\n  " + why; });
  if (!latest)
    core::fail("{}: no {}checkpoint to read the weights from{}", store.directory(),
               refused.empty() ? "" : "intact ", refused);
  return *std::move(latest);
}

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

// Hands what reads the weights to `use`, with their step.
void with_weights(const std::string& run_directory, const std::string& which,
                  const std::function<void(std::int64_t step, const ReadWeights&)>& use) {
  if (core::exists(which) && !core::is_directory(which)) {
    const WeightsFile file(which);
    return use(file.step(), [&](const auto& name, const auto& shape, float* to) { file.read(name, shape, to); });
  }
  const core::Checkpoint checkpoint = open_checkpoint(run_directory, which);
  const core::PieceReader reader(checkpoint, kStatePrefix);
  use(checkpoint.step(), [&](const std::string& name, const core::Shape& shape, float* to) {
    reader.read_float(name + "/master", shape, core::Dtype::float32, 0, core::element_count(shape), to);
  });
}

}  // namespace

TrainedModel load_trained_model(core::Device& device, const std::string& run_directory,
                                const std::string& checkpoint) {
  const std::string file = run_directory + "/config.resolved.yaml";
  if (!core::exists(file))
    core::fail("{}: not there; give the folder of a run that `muonp train` made", file);
  TrainedModel trained;
  trained.config = load_run_config(file, {});
  trained.model = models::make_gpt(trained.config.model);
  trained.parameters = std::make_unique<core::PlainParameters>(device, trained.model->parameters(),
                                                               trained.config.compute(), 0);
  with_weights(run_directory, checkpoint, [&](std::int64_t step, const ReadWeights& read) {
    trained.step = step;
    for (const core::Parameter* p : trained.model->parameters()) read_value(device, read, *p);
  });
  return trained;
}

}  // namespace muonp::launch
