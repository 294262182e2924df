#include "dist/nccl/watchdog.h"

#include <algorithm>

#include "core/base/error.h"

namespace muonp::dist {

namespace {
constexpr std::chrono::milliseconds kLongestInterval{100}, kAway{500};
}

NcclWatchdog::NcclWatchdog(int device, double timeout_seconds, Outside outside)
    : timeout_(timeout_seconds), outside_(std::move(outside)) {
  thread_ = std::thread([this, device] { watch(device); });
}

NcclWatchdog::~NcclWatchdog() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    woken_.notify_all();
  }
  thread_.join();
}

core::cuda::Event NcclWatchdog::take_event() {
  if (spare_.empty()) return core::cuda::make_event();
  core::cuda::Event event = std::move(spare_.back());
  spare_.pop_back();
  return event;
}

void NcclWatchdog::begin(std::string what, cudaStream_t stream) {
  const std::lock_guard lock(mutex_);
  retire();
  Entry entry{.number = last_ + 1, .what = std::move(what), .start = take_event(), .end = take_event()};
  MUONP_CUDA(cudaEventRecord(entry.start.get(), stream));
  ++last_;
  last_what_ = entry.what;
  entries_.push_back(std::move(entry));
}

void NcclWatchdog::issued(cudaStream_t stream) {
  const std::lock_guard lock(mutex_);
  Entry& entry = entries_.back();
  MUONP_CUDA(cudaEventRecord(entry.end.get(), stream));
  entry.issued = true;
}

std::uint64_t NcclWatchdog::last() const {
  const std::lock_guard lock(mutex_);
  return last_;
}

void NcclWatchdog::make_wait(cudaStream_t stream, std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  const auto asked = std::ranges::find(entries_, number, &Entry::number);  // not there: it has ended
  if (asked != entries_.end() && asked->issued) MUONP_CUDA(cudaStreamWaitEvent(stream, asked->end.get()));
}

bool NcclWatchdog::drain() {
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      retire();
      if (failed_) return false;
      if (entries_.empty()) return true;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

void NcclWatchdog::retire() {
  while (!entries_.empty() && broken_.empty()) {
    Entry& oldest = entries_.front();
    if (!oldest.started) {
      if (!has_come(oldest.start)) return;
      oldest.started = true;
      started_ = Clock::now();
      was_away_ = false;
    }
    if (!oldest.issued || !has_come(oldest.end)) return;
    spare_.push_back(std::move(oldest.start));
    spare_.push_back(std::move(oldest.end));
    entries_.pop_front();
  }
}

bool NcclWatchdog::has_come(const core::cuda::Event& event) {
  const cudaError_t status = cudaEventQuery(event.get());
  if (status == cudaSuccess) return true;
  cudaGetLastError();  // not to be found again by the next launch
  if (status != cudaErrorNotReady) broken_ = fmt::format("{} ({})", cudaGetErrorString(status), cudaGetErrorName(status));
  return false;
}

std::string NcclWatchdog::where() const {
  if (!entries_.empty()) return fmt::format("{} (operation {})", entries_.front().what, entries_.front().number);
  return last_ > 0 ? fmt::format("after {} (operation {})", last_what_, last_) : "before any operation";
}

std::optional<NcclWatchdog::Report> NcclWatchdog::look(const std::string& error, bool asked) {
  retire();
  const auto now = Clock::now();
  if (now - looked_ > kAway) {  // to be stopped and go on is no reason to give others up
    started_ += now - looked_;
    was_away_ = true;
  }
  looked_ = now;
  const bool waits = !entries_.empty() && entries_.front().started;
  const std::chrono::duration<double> since = waits ? now - started_ : Clock::duration::zero();
  if (!broken_.empty()) return Report{.what = fmt::format("{}: the GPU failed: {}", where(), broken_), .of_here = true};
  if (!error.empty()) return Report{.what = fmt::format("{}: NCCL reports: {}", where(), error), .waited = !was_away_};
  if (!asked && since < timeout_) return {};
  return Report{.what = fmt::format("{} made no progress for {:.3g} s", where(), std::min(since, timeout_).count()),
                .guess = "a rank has ended, waits elsewhere, or its GPU is busy for longer",
                .waited = since >= timeout_ / 2 && !was_away_};
}

void NcclWatchdog::watch(int device) {
  cudaSetDevice(device);
  const auto interval =
      std::clamp<std::chrono::duration<double>>(timeout_ / 20, std::chrono::milliseconds(1), kLongestInterval);
  for (;;) {
    const std::string error = outside_.error();
    const bool asked = outside_.asked();
    std::optional<Report> report;
    {
      std::unique_lock lock(mutex_);
      report = look(error, asked);
      if (!report) {
        if (woken_.wait_for(lock, interval, [this] { return stop_; })) return;
        continue;
      }
    }
    outside_.fail(*report);
    const std::lock_guard lock(mutex_);
    failed_ = true;
    return;
  }
}

}  // namespace muonp::dist
