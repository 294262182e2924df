#include "launch/checkpointing.h"

#include <nlohmann/json.hpp>

#include "core/checkpoint_pieces.h"
#include "core/host_view.h"
#include "dist/agreement.h"
#include "launch/patience.h"
#include "optim/state_reader.h"

namespace muonp::launch {

using nlohmann::json;

namespace {

constexpr const char* kPrefix = "state";

json to_json(const core::CheckpointEntry& entry) { return {entry.name, entry.bytes, entry.checksum}; }

json to_json(const LossHistory& history) {
  return {{"last", history.losses},
          {"skipped", history.skipped},
          {"skipped_in_a_row", history.skipped_in_a_row}};
}

// Nothing in a checkpoint from before there were any.
LossHistory losses_from(const json& state) {
  if (!state.contains("losses")) return {};
  const json& j = state.at("losses");
  return {j.at("last").get<std::vector<double>>(), j.at("skipped").get<std::int64_t>(),
          j.at("skipped_in_a_row").get<std::int64_t>()};
}

core::CheckpointEntry entry_from(const json& j) {
  return {j.at(0).get<std::string>(), j.at(1).get<std::int64_t>(), j.at(2).get<std::uint64_t>()};
}

}  // namespace

Checkpointing::Checkpointing(const RunConfig& config, Session& session, Learner& learner)
    : config_(config), session_(session), learner_(learner), store_(config.directory() + "/checkpoints") {}

void Checkpointing::save(const RunProgress& progress) {
  dist::Communicator& communicator = session_.communicator();
  std::optional<core::CheckpointWriter> writer;
  run_on_rank_zero(communicator, [&] { writer.emplace(store_.begin(progress.step)); });
  core::CheckpointEntry mine;
  run_on_all_patiently(communicator, [&] {
    std::vector<core::HostView> views;
    std::vector<core::TensorPiece> pieces;
    for (const optim::StateTensor& t : learner_.optimizer().state_to_save()) {
      views.emplace_back(session_.device().queue(), t.data, core::Access::read);
      pieces.push_back(
          {t.name, t.shape, t.data.dtype(), t.interval.begin, t.interval.end, views.back().raw()});
    }
    mine = core::write_pieces(core::CheckpointPart(store_.directory(), progress.step),
                              core::piece_file_name(kPrefix, session_.rank()), pieces);
  });
  std::vector<core::CheckpointEntry> entries;
  for (const std::string& text : communicator.all_gather_bytes(to_json(mine).dump()))
    entries.push_back(entry_from(json::parse(text)));
  run_on_rank_zero(communicator, [&] {
    const json state = {{"step", progress.step},
                        {"updates", progress.updates},
                        {"tokens", progress.tokens},
                        {"seconds", progress.seconds},
                        {"world_size", session_.world_size()},
                        {"zero", config_.parallel.zero},
                        {"seed", config_.run.seed},
                        {"batch", config_.data.batch},
                        {"sequence", config_.data.sequence},
                        {"losses", to_json(progress.losses)}};
    writer->commit(entries, state.dump());
    store_.keep_last(config_.checkpoint.keep);
  });
}

std::string Checkpointing::choose() {
  const std::string& resume = config_.checkpoint.resume;
  if (resume == "none") {
    if (!store_.steps().empty())
      core::fail(
          "checkpoint.resume is none, but {} holds checkpoints of an earlier run; go on with it (auto), "
          "choose "
          "another run.name, or remove that folder",
          store_.directory());
    return "";
  }
  if (resume != "auto") return store_.open(resume).path();
  store_.clean();
  std::string refused;
  const auto latest = store_.latest([&](const std::string& why) {
    session_.log().warn("a checkpoint is passed over: {}", why);
    refused += "\n  " + why;
  });
  if (!latest && !refused.empty())
    core::fail(
        "no checkpoint in {} is intact, and starting over would lose the run; remove that folder to do so:{}",
        store_.directory(), refused);
  return latest ? latest->path() : "";
}

std::optional<RunProgress> Checkpointing::resume() {
  std::string path;
  run_on_rank_zero(session_.communicator(), [&] { path = choose(); });
  path = session_.communicator().all_gather_bytes(path).front();
  if (path.empty()) return std::nullopt;
  return load(path);
}

RunProgress Checkpointing::load(const std::string& path) {
  dist::Communicator& communicator = session_.communicator();
  RunProgress progress;
  std::unique_ptr<core::PieceReader> reader;
  bool same_world_size = false;
  dist::run_on_all(communicator, [&] {
    const core::Checkpoint checkpoint(path);
    const json state = json::parse(checkpoint.state_json());
    progress = {state.at("step").get<std::int64_t>(), state.at("updates").get<std::int64_t>(),
                state.at("tokens").get<std::int64_t>(), state.at("seconds").get<double>(), losses_from(state)};
    const auto expect = [&](const char* key, const char* setting, std::int64_t value) {
      if (state.at(key).get<std::int64_t>() != value)
        core::fail("{}: this run has {} = {}, the checkpoint {}; the order of samples would change", path,
                   setting, value, state.at(key).get<std::int64_t>());
    };
    expect("seed", "run.seed", config_.run.seed);
    expect("batch", "data.batch", config_.data.batch);
    expect("sequence", "data.sequence", config_.data.sequence);
    same_world_size = state.at("world_size").get<int>() == session_.world_size();
    reader = std::make_unique<core::PieceReader>(checkpoint, kPrefix);
  });
  learner_.optimizer().load_state(progress.updates, [&](const optim::StateTensor& t) {
    const core::HostView host(session_.device().queue(), t.data, core::Access::write);
    optim::StateReader(*reader, same_world_size).read(t, host.data<float>());
    host.upload();
  });
  learner_.optimizer().require_equal_weights();
  return progress;
}

}  // namespace muonp::launch
