#include "launch/train/descent.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/files/files.h"
#include "launch/train/starting_weights.h"

namespace muonp::launch {

using nlohmann::json;

namespace {

namespace fs = std::filesystem;

constexpr const char* kAside = "aside-";

BranchStart start_from(const json& start, const std::string& checkpoint) {
  const bool whole = start.is_object() && start.contains("step") && start.at("step").is_number_unsigned() &&
                     start.contains("manifest") && start.at("manifest").is_string() && start.contains("named") &&
                     start.at("named").is_string();
  if (!whole)
    core::fail("{}/manifest.json: the state's '{}' is no list of starts; no run of this program wrote it", checkpoint,
               kStartsKey);
  return {start.at("step").get<std::int64_t>(), start.at("manifest").get<std::string>(),
          start.at("named").get<std::string>()};
}

bool same_folder(const std::string& a, const std::string& b) {
  std::error_code code;
  return fs::weakly_canonical(a, code) == fs::weakly_canonical(b, code);
}

}  // namespace

std::vector<BranchStart> starts_of(const core::Checkpoint& checkpoint) {
  const json state = json::parse(checkpoint.state_json());
  if (!state.is_object() || !state.contains(kStartsKey)) return {};
  std::vector<BranchStart> starts;
  for (const json& start : state.at(kStartsKey)) starts.push_back(start_from(start, checkpoint.path()));
  return starts;
}

json to_json(const std::vector<BranchStart>& starts) {
  json list = json::array();
  for (const BranchStart& s : starts) list.push_back({{"step", s.step}, {"manifest", s.manifest}, {"named", s.named}});
  return list;
}

void DamagedCheckpoints::add(const std::string& path, const std::string& why) {
  if (why_.try_emplace(path, why).second) log_.warn("a checkpoint is passed over: {}", why);
}

const std::string* DamagedCheckpoints::find(const std::string& path) const {
  const auto entry = why_.find(path);
  return entry == why_.end() ? nullptr : &entry->second;
}

std::string DamagedCheckpoints::text() const {
  std::string all;
  for (const auto& [path, why] : why_) all += "\n  " + why;
  return all;
}

std::optional<core::Checkpoint> LinesOfDescent::found(const std::string& path) const {
  if (damaged_.find(path)) return std::nullopt;
  try {
    core::Checkpoint checkpoint = store_.find(path);
    starts_of(checkpoint);  // an Error now rather than where it is wanted
    return checkpoint;
  } catch (const core::Error& error) {
    damaged_.add(path, error.what());
    return std::nullopt;
  }
}

Descent LinesOfDescent::newest() const {
  if (const auto latest = newest_intact(store_.by_age())) return {latest->path(), starts_of(*latest)};
  if (const std::string why = damaged_.text(); !why.empty())
    core::fail("no checkpoint in {} is intact, and starting over would lose the run; remove that folder to do so:{}",
               store_.directory(), why);
  return {};
}

struct LinesOfDescent::Branch {
  std::string named, path;                     // of the start
  bool elsewhere = false;                      // it lies in another folder
  std::optional<core::Checkpoint> start = {};  // unless it is gone or damaged
  std::int64_t step = 0;                       // of the start
  std::vector<std::int64_t> mine = {};         // steps that descend from it, in the order of writing
  std::vector<std::int64_t> rest = {};         // the other checkpoints of the store
};

LinesOfDescent::Branch LinesOfDescent::find(const std::string& named) const {
  Branch branch{.named = named, .path = store_.path_named(named)};
  branch.elsewhere = !same_folder(core::parent_directory(branch.path), store_.directory());
  try {
    branch.start.emplace(store_.find(branch.path));
    branch.step = branch.start->step();
  } catch (const core::Error&) {
    // It is missed only while nothing descends from it, and then opened again.
  }
  // The words that named the start stand in for it once it is gone.
  const auto is_start = [&](const BranchStart& s) {
    return branch.start ? s.manifest == branch.start->checksum() : s.named == named;
  };
  for (const std::int64_t step : store_.by_age()) {
    const auto checkpoint = found(store_.path_of(step));
    if (!checkpoint) continue;
    const std::vector<BranchStart> starts = starts_of(*checkpoint);
    const auto start = std::ranges::find_if(starts, is_start);
    (start == starts.end() ? branch.rest : branch.mine).push_back(step);
    if (start != starts.end()) branch.step = start->step;
  }
  return branch;
}

Descent LinesOfDescent::branch(const std::string& named, bool may_set_aside) const {
  const Branch branch = find(named);
  std::optional<core::Checkpoint> at = newest_intact(branch.mine);
  const bool from_start = !at;
  if (from_start) {
    if (const std::string* why = damaged_.find(branch.path)) core::fail("{}", *why);
    at = store_.find(named);
  }
  Descent descent{.path = at->path(), .starts = starts_of(*at), .elsewhere = branch.elsewhere};
  if (from_start) descent.starts.push_back({at->step(), at->checksum(), named});
  std::ranges::copy_if(branch.rest, std::back_inserter(descent.others),
                       [&](std::int64_t step) { return branch.elsewhere || step > branch.step; });
  if (!descent.others.empty() && !may_set_aside) refuse(branch, descent.others);
  return descent;
}

std::optional<core::Checkpoint> LinesOfDescent::newest_intact(const std::vector<std::int64_t>& steps) const {
  for (auto step = steps.rbegin(); step != steps.rend(); ++step)
    if (auto checkpoint = found(store_.path_of(*step))) return checkpoint;
  return std::nullopt;
}

void LinesOfDescent::refuse(const Branch& branch, const std::vector<std::int64_t>& others) const {
  core::fail(
      "checkpoint.resume: {} is the start of a branch, but {} holds {} of another line, of step{} {}. To go on with that "
      "line: checkpoint.resume=auto. To leave it as it is: another run.name, with checkpoint.resume={}. To branch in this "
      "folder: checkpoint.set_aside=true, which first moves that line, whole, to {}/{}N",
      branch.named, store_.directory(), branch.elsewhere ? "checkpoints" : "newer checkpoints",
      others.size() == 1 ? "" : "s", fmt::join(others, ", "), branch.path, run_, kAside);
}

// Under a name that says that it is not whole until all is there: a move that was cut short is completed by the next.
void LinesOfDescent::set_aside(const Descent& descent) const {
  if (descent.others.empty()) return;
  const std::string folder = fmt::format("{}/{}{}", run_, kAside, set_aside_in(run_).size() + 1);
  const std::string partial = folder + ".partial";
  core::make_directories(partial + "/checkpoints");
  for (const char* name : {"metrics.jsonl", "config.resolved.yaml"}) {
    const std::string from = run_ + "/" + name, to = partial + "/" + name;
    if (!core::exists(from) || core::exists(to)) continue;
    if (descent.elsewhere)
      core::rename_path(from, to);
    else
      core::write_file(to, core::read_file(from));  // up to the start it is the branch's too
  }
  copy_kept_folder(run_, partial);
  const core::CheckpointStore aside(partial + "/checkpoints");
  for (const std::int64_t step : descent.others) core::rename_path(store_.path_of(step), aside.path_of(step));
  core::rename_path(partial, folder);
  log_.info("The checkpoints of another line, of step{} {}, are set aside in {}.", descent.others.size() == 1 ? "" : "s",
            fmt::join(descent.others, ", "), folder);
}

std::vector<std::string> set_aside_in(const std::string& run) {
  std::vector<std::string> folders;
  for (int n = 1; core::is_directory(fmt::format("{}/{}{}", run, kAside, n)); ++n)
    folders.push_back(fmt::format("{}/{}{}", run, kAside, n));
  return folders;
}

}  // namespace muonp::launch
