#include "launch/trained_model.h"

#include <algorithm>
#include <vector>

#include "core/checkpoint_pieces.h"
#include "core/checkpoint_store.h"
#include "core/files.h"
#include "core/host_view.h"

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

void read_value(core::Device& device, const core::PieceReader& reader, const core::Parameter& p) {
  const std::string name = p.name + "/master";
  const core::HostView value(device.queue(), p.value, core::Access::write);
  if (p.value.dtype() == core::Dtype::float32) {
    reader.read_float(name, p.shape, core::Dtype::float32, 0, p.size(), value.data<float>());
  } else {
    std::vector<float> master(static_cast<std::size_t>(p.size()));
    reader.read_float(name, p.shape, core::Dtype::float32, 0, p.size(), master.data());
    std::ranges::transform(master, value.data<core::bfloat16>(), [](float x) { return core::bfloat16(x); });
  }
  value.upload();
}

}  // namespace

TrainedModel load_trained_model(core::Device& device, const std::string& run_directory,
                                const std::string& checkpoint) {
  const std::string file = run_directory + "/config.resolved.yaml";
  if (!core::exists(file))
    core::fail("{}: not there; give the folder of a run that `muonp train` made", file);
  TrainedModel trained;
  trained.config = load_run_config(file, {});
  const core::Checkpoint opened = open_checkpoint(run_directory, checkpoint);
  trained.step = opened.step();
  trained.model = models::make_gpt(trained.config.model);
  trained.parameters = std::make_unique<core::PlainParameters>(device, trained.model->parameters(),
                                                               trained.config.compute(), 0);
  const core::PieceReader reader(opened, "state");
  for (const core::Parameter* p : trained.model->parameters()) read_value(device, reader, *p);
  return trained;
}

}  // namespace muonp::launch
