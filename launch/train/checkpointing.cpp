#include "launch/train/checkpointing.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/base/clock.h"
#include "core/device/host_view.h"
#include "core/device/offload.h"
#include "dist/comm/agreement.h"
#include "launch/program/long_work.h"
#include "optim/engine/state_reader.h"

namespace muonp::launch {

using nlohmann::json;

namespace {

constexpr const char* kEvaluatedKey = "evaluated";  // of the state

json to_json(const core::CheckpointEntry& entry) { return {entry.name, entry.bytes, entry.checksum}; }

json to_json(const LossHistory& history) {
  return {{"last", history.losses}, {"skipped", history.skipped}, {"skipped_in_a_row", history.skipped_in_a_row}};
}

core::CheckpointEntry entry_from(const json& j) {
  return {j.at(0).get<std::string>(), j.at(1).get<std::int64_t>(), j.at(2).get<std::uint64_t>()};
}

std::int64_t bytes_of(const std::vector<optim::StateTensor>& state) {
  std::int64_t bytes = 0;
  for (const optim::StateTensor& t : state) bytes += t.bytes();
  return bytes;
}

// The values that state_json() wrote.
class StateValues {
 public:
  explicit StateValues(const core::Checkpoint& checkpoint)
      : path_(checkpoint.path()), state_(json::parse(checkpoint.state_json())) {}
  std::int64_t count(const char* key) const {
    const json& value = at(key);
    if (!value.is_number_unsigned() || value.get<std::int64_t>() < 0) refuse(key, "a count");
    return value.get<std::int64_t>();
  }
  double real(const char* key) const {
    const json& value = at(key);
    if (!value.is_number()) refuse(key, "a number");
    return value.get<double>();
  }
  bool evaluated() const {  // older ones had it no other way
    if (!state_.is_object() || !state_.contains(kEvaluatedKey)) return true;
    const json& value = at(kEvaluatedKey);
    if (!value.is_boolean()) refuse(kEvaluatedKey, "true or false");
    return value.get<bool>();
  }
  LossHistory losses() const {
    const StateValues of_losses(path_, at("losses"));
    const json& last = of_losses.at("last");
    if (!last.is_array() || !std::ranges::all_of(last, [](const json& loss) { return loss.is_number(); }))
      of_losses.refuse("last", "a list of losses");
    return {last.get<std::vector<double>>(), of_losses.count("skipped"), of_losses.count("skipped_in_a_row")};
  }

 private:
  StateValues(std::string path, json state) : path_(std::move(path)), state_(std::move(state)) {}
  const json& at(const char* key) const {
    if (!state_.is_object() || !state_.contains(key)) refuse(key, "there");
    return state_.at(key);
  }
  [[noreturn]] void refuse(const char* key, const char* expected) const {
    core::fail("{}/manifest.json: the state's '{}' is not {}; no run of this program wrote it", path_, key, expected);
  }
  std::string path_;
  json state_;
};

}  // namespace

struct Checkpointing::Save {
  RunProgress progress;
  Older older = Older::deleted;
  SaveReport report;
  double started = 0;
  std::vector<core::HostView> views;             // of the state, where it is not copied
  std::vector<std::vector<float>> widened;       // of what the views do not have: states in fewer bits
  std::optional<core::CheckpointWriter> writer;  // rank 0
  core::CheckpointEntry mine;
  std::vector<core::CheckpointEntry> entries;  // of all ranks, once all files are written
  std::future<void> work;                      // of this rank's worker, which has ended it before this is destroyed
};

struct Checkpointing::Block {
  explicit Block(Checkpointing& saves) : owner(saves) { owner.charged_ = core::seconds_now(); }
  ~Block() { owner.charge(); }
  Checkpointing& owner;
};

Checkpointing::Checkpointing(const RunConfig& config, Session& session, Learner& learner,
                             std::function<void(const SaveReport&)> on_saved, std::function<void()> before_save)
    : config_(config),
      session_(session),
      learner_(learner),
      on_saved_(std::move(on_saved)),
      before_save_(std::move(before_save)),
      store_(config.directory() + "/checkpoints"),
      identity_(run_identity(config, learner.data_identity())) {
  if (!config_.checkpoint.copies_state()) return;
  const std::int64_t bytes = bytes_of(learner_.optimizer().state_to_save());
  snapshot_ = core::Tensor::staging(session_.device(), {bytes}, core::Dtype::uint8, core::Category::other);
  std::memset(snapshot_.raw(), 0,
              static_cast<std::size_t>(bytes));  // the system hands out pages when they are touched
}

Checkpointing::~Checkpointing() = default;

void Checkpointing::charge() {
  const double time = core::seconds_now(), spent = time - charged_;
  charged_ = time;
  if (!save_) return;
  save_->report.blocked_seconds += spent;
  save_->report.longest_seconds = std::max(save_->report.longest_seconds, spent);
}

void Checkpointing::save(const RunProgress& progress, Older older) {
  if (save_ && !said_late_ && session_.rank() == 0)
    session_.log().warn(
        "the checkpoint of step {} is still being written now that the one of step {} is due, and training waits; a larger "
        "checkpoint.every leaves more time",
        save_->progress.step, progress.step);
  said_late_ = said_late_ || save_ != nullptr;
  const Block block(*this);
  end_save();
  save_ = std::make_unique<Save>();
  save_->progress = progress;
  save_->older = older;
  save_->report.step = progress.step;
  save_->started = core::seconds_now();
  // Every rank sees the folder from here on.
  const auto begin = [&] {
    if (session_.rank() != 0) return;
    if (before_save_) before_save_();
    save_->writer.emplace(store_.begin(progress.step));
  };
  try {
    dist::run_on_all(session_.communicator(), begin);
  } catch (...) {
    save_.reset();
    throw;
  }
  write(pieces());
  if (!snapshot_) end_save();
}

// This rank's state in host memory that stays as it is until the save is over.
std::vector<core::TensorPiece> Checkpointing::pieces() {
  core::Queue& queue = session_.device().queue();
  const std::vector<optim::StateTensor> state = learner_.optimizer().state_to_save();
  MUONP_ASSERT(!snapshot_ || bytes_of(state) == snapshot_.bytes(), "{} bytes of state, {} at the start", bytes_of(state),
               snapshot_.bytes());
  std::vector<core::TensorPiece> pieces;
  char* copy = snapshot_ ? static_cast<char*>(snapshot_.raw()) : nullptr;
  for (const optim::StateTensor& t : state) {
    const void* data = copy;
    if (snapshot_) {
      t.read(session_.device(), copy);
      copy += t.bytes();
    } else if (t.narrow.narrow()) {
      save_->widened.emplace_back(static_cast<std::size_t>(t.interval.count()));
      t.read(session_.device(), save_->widened.back().data());
      data = save_->widened.back().data();
    } else {
      save_->views.emplace_back(queue, t.data, core::Access::read);
      data = save_->views.back().raw();
    }
    pieces.push_back({t.name, t.shape, core::Dtype::float32, t.interval.begin, t.interval.end, data});
  }
  return pieces;
}

void Checkpointing::write(std::vector<core::TensorPiece> pieces) {
  Save* save = save_.get();
  const std::string name = core::piece_file_name(kStatePrefix, session_.rank());
  save->work = worker_.run([this, save, name, pieces = std::move(pieces)] {
    save->mine = core::write_pieces(core::CheckpointPart(store_.directory(), save->progress.step), name, pieces);
  });
}

void Checkpointing::commit() {
  Save* save = save_.get();
  for (const std::string& text : session_.communicator().all_gather_bytes(to_json(save->mine).dump()))
    save->entries.push_back(entry_from(json::parse(text)));
  for (const core::CheckpointEntry& e : save->entries) save->report.bytes += e.bytes;
  save->work = worker_.run([this, save] {
    if (session_.rank() != 0) return;
    save->writer->commit(save->entries, state_json(save->progress));
    if (save->older == Older::deleted) store_.keep_last(config_.checkpoint.keep);
  });
}

std::string Checkpointing::state_json(const RunProgress& progress) const {
  const json state = {{"step", progress.step},
                      {"updates", progress.updates},
                      {"tokens", progress.tokens},
                      {"seconds", progress.seconds},
                      {"world_size", session_.world_size()},
                      {"zero", config_.parallel.zero},
                      {"identity", json::parse(to_json(identity_))},
                      {"losses", to_json(progress.losses)},
                      {kEvaluatedKey, progress.evaluated},
                      {kStartsKey, to_json(starts_)}};
  return state.dump();
}

// What comes after work that has ended on all ranks.
void Checkpointing::carry_on() {
  try {
    dist::run_on_all(session_.communicator(), [&] { save_->work.get(); });
    if (save_->entries.empty()) return commit();
  } catch (...) {
    save_.reset();
    throw;
  }
  charge();
  SaveReport report = save_->report;
  report.total_seconds = core::seconds_now() - save_->started;
  save_.reset();
  if (on_saved_) on_saved_(report);
}

void Checkpointing::advance() {
  if (!save_) return;
  const Block block(*this);
  if (dist::all_agree(session_.communicator(), ended(save_->work))) carry_on();
}

void Checkpointing::finish() {
  const Block block(*this);
  end_save();
}

void Checkpointing::end_save() {
  while (save_) {
    wait_in_contact(session_.communicator(), save_->work);
    carry_on();
  }
}

Descent Checkpointing::choose(DamagedCheckpoints& damaged) const {
  const std::string& resume = config_.checkpoint.resume;
  store_.clean();
  if (resume == "none" && !store_.steps().empty())
    core::fail(
        "checkpoint.resume is none, but {} holds checkpoints of an earlier run; go on with it (auto), choose another "
        "run.name, or remove that folder",
        store_.directory());
  if (resume == "none") return {};
  const LinesOfDescent lines(config_.directory(), store_, session_.log(), damaged);
  return resume == "auto" ? lines.newest() : lines.branch(resume, config_.checkpoint.set_aside);
}

void Checkpointing::verify(const std::string& path) {
  run_on_all_in_contact(session_.communicator(), [&] {
    const auto rank = static_cast<std::size_t>(session_.rank()), ranks = static_cast<std::size_t>(session_.world_size());
    core::Checkpoint(path, rank, ranks).verify(rank, ranks);
  });
}

std::optional<RunProgress> Checkpointing::resume() {
  DamagedCheckpoints damaged(session_.log());
  for (;;) {
    Descent descent;
    run_on_rank_zero(session_.communicator(), [&] { descent = choose(damaged); });
    const std::string path = session_.communicator().all_gather_bytes(descent.path).front();
    if (path.empty()) return std::nullopt;
    try {
      verify(path);
    } catch (const dist::AgreedError& error) {
      if (session_.rank() == 0) damaged.add(path, error.what());
      continue;
    }
    starts_ = descent.starts;
    const RunProgress progress = load(path);
    run_on_rank_zero(session_.communicator(),
                     [&] { LinesOfDescent(config_.directory(), store_, session_.log(), damaged).set_aside(descent); });
    return progress;
  }
}

RunProgress Checkpointing::load(const std::string& path) {
  dist::Communicator& communicator = session_.communicator();
  RunProgress progress;
  std::optional<core::Checkpoint> checkpoint;
  std::vector<std::string> changes;
  bool same_world_size = false;
  std::string pieces;  // in this rank's share of the files
  dist::run_on_all(communicator, [&] {
    const auto rank = static_cast<std::size_t>(session_.rank()), ranks = static_cast<std::size_t>(session_.world_size());
    checkpoint.emplace(path, rank, ranks);
    const StateValues state(*checkpoint);
    progress = {state.count("step"),   state.count("updates"), state.count("tokens"),
                state.real("seconds"), state.losses(),         state.evaluated()};
    if (progress.step != checkpoint->step())
      core::fail("{}: the checkpoint is of step {}, its state of step {}", path, checkpoint->step(), progress.step);
    const RunIdentity saved = identity_of(*checkpoint);
    changes = require_same_run(path, saved, identity_.values, config_.checkpoint.allow);
    take_over(saved, identity_);
    same_world_size = state.count("world_size") == session_.world_size();
    pieces = core::index_pieces(*checkpoint, kStatePrefix, rank, ranks);
  });
  const std::vector<std::string> index = communicator.all_gather_bytes(pieces);
  std::unique_ptr<core::PieceReader> reader;
  dist::run_on_all(communicator, [&] {
    reader = std::make_unique<core::PieceReader>(*checkpoint, kStatePrefix, index);
    require_same_parameters(path, parameters_in(*reader), core::trained_of(learner_.model().parameters()));
  });
  for (const std::string& change : changes) session_.log().info("{}", change);
  learner_.optimizer().load_state(progress.updates, [&](const optim::StateTensor& t) {
    t.write(session_.device(),
            [&](const optim::StateTensor& part, float* to) { optim::StateReader(*reader, same_world_size).read(part, to); });
  });
  learner_.fill_frozen();
  learner_.optimizer().require_equal_weights();
  return progress;
}

}  // namespace muonp::launch
