#include "launch/sweep/runner.h"

#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <thread>

#include "core/base/error.h"
#include "core/base/processors.h"
#include "core/device/device.h"
#include "core/files/files.h"
#include "launch/train/run_lock.h"

namespace muonp::launch {
namespace {

constexpr std::chrono::milliseconds kPause(50);

// By its real name: processes are found by it.
std::string this_program() {
  char path[PATH_MAX];
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof path);
  if (length <= 0) core::fail("the path of this program is not known: /proc is needed");
  return {path, static_cast<std::size_t>(length)};
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

// The name of the `slot`-th of the GPUs that this process sees.
std::string gpu_of(int slot) {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  std::istringstream names(visible == nullptr ? "" : visible);
  std::string name;
  for (int i = 0; i <= slot; ++i)
    if (!std::getline(names, name, ',')) return fmt::format("{}", slot);
  return name;
}

}  // namespace

Slots slots_for(const SweepFile& file, const std::vector<SweepRun>& runs) {
  if (file.ranks > 0) return {};
  Slots slots;
  slots.count = std::max(1, core::processors().usable() / static_cast<int>(file.threads));
  if (file.jobs > 0) slots.count = std::min(slots.count, static_cast<int>(file.jobs));
  const int gpus = core::cuda_device_count();
  slots.gpus = gpus > 0 && std::ranges::any_of(runs, [](const SweepRun& run) { return run.device != "cpu"; });
  if (slots.gpus) slots.count = std::min(slots.count, gpus);
  return slots;
}

Child::Command command_of(const SweepRun& run, const SweepFile& file, const std::string& program, bool gpus, int slot) {
  Child::Command command;
  if (file.ranks > 0) {
    command.words = words_of(file.launcher);
    for (const std::string& word : {std::string("-np"), fmt::format("{}", file.ranks)}) command.words.push_back(word);
  }
  for (const std::string& word : {program, std::string("train"), file.base}) command.words.push_back(word);
  for (const std::string& assignment : run.overrides) {
    command.words.emplace_back("--set");
    command.words.push_back(assignment);
  }
  command.environment.push_back(fmt::format("OMP_NUM_THREADS={}", file.threads));  // libraries that ask nobody else
  if (gpus) command.environment.push_back("CUDA_VISIBLE_DEVICES=" + gpu_of(slot));
  command.log = log_of(run);
  return command;
}

Runner::Runner(const SweepFile& file, Slots slots, const StopSignals& signals, SweepProgress& progress)
    : file_(file), slots_(slots), signals_(signals), progress_(progress), program_(this_program()) {}

void Runner::run(const std::vector<SweepRun>& runs) {
  waiting_.clear();
  for (auto run = runs.rbegin(); run != runs.rend(); ++run) {
    const RunState state = read_record(*run).state;
    begun_ = begun_ || state == RunState::complete;
    if (!is_over(state)) waiting_.push_back(&*run);
  }
  while (!waiting_.empty() || !running_.empty()) {
    const bool stopping = signals_.requested();
    if (!stopping) start_what_fits();
    look_after(stopping);
    if (stopping && running_.empty()) throw Interrupted("the same command goes on");
    std::this_thread::sleep_for(kPause);
  }
}

void Runner::start_what_fits() {
  for (auto next = waiting_.rbegin(); next != waiting_.rend() && std::ssize(running_) < slots_.count;) {
    if (!running_.empty() && !begun_) return;  // the first alone: it encodes what the others share
    const SweepRun& run = **next;
    if (RunLock::is_held(run.folder)) {  // by what a sweep that was killed has left behind, and which is ending
      if (!said_held_)
        progress_.say(fmt::format("{} is still held by another process; the sweep waits for its end", run.folder));
      said_held_ = true;
      ++next;
      continue;
    }
    waiting_.erase(std::next(next).base());
    start(run);
    next = waiting_.rbegin();
  }
}

int Runner::free_slot() const {
  int slot = 0;
  while (std::ranges::find(running_, slot, &Running::slot) != running_.end()) ++slot;
  return slot;
}

void Runner::start(const SweepRun& run) {
  prepare_start(run);
  const int slot = free_slot();
  running_.push_back({&run, std::make_unique<Child>(command_of(run, file_, program_, slots_.gpus, slot)), slot});
}

void Runner::look_after(bool stopping) {
  std::int64_t steps = 0;
  for (std::size_t i = 0; i < running_.size();) {
    Running& running = running_[i];
    const std::optional<int> status = running.child->status();
    const RunningStep at = running_step(running.run->folder);
    begun_ = begun_ || at.step > 0;
    if (status) {
      end(running, *status, stopping);
      running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(i));
      continue;
    }
    if (stopping || (!at.finite && !running.run->passes_over_bad_steps)) running.child->ask_to_stop();
    steps += std::min(at.step, running.run->steps);
    ++i;
  }
  progress_.show(steps, std::ssize(running_));
}

void Runner::end(Running& running, int status, bool stopping) {
  const RunOutcome record = outcome_of(*running.run, status, stopping);
  write_record(*running.run, record);
  progress_.ended(*running.run, result_of(*running.run, file_));
}

}  // namespace muonp::launch
