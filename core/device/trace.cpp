#include "core/device/trace.h"

#include <algorithm>
#include <utility>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/device/cuda/ranges.h"

namespace muonp::core {

namespace {
thread_local Trace* trace_of_thread = nullptr;
}

Trace::Trace(Queue& queue) : queue_(queue) {
  MUONP_ASSERT(trace_of_thread == nullptr, "two traces of one thread");
  trace_of_thread = this;
}

Trace::~Trace() { trace_of_thread = nullptr; }

Trace* Trace::current() { return trace_of_thread; }

void Trace::start() {
  queue_.synchronize();
  origin_ = queue_.now();
  host_origin_ = seconds_now();
  started_ = true;
}

void Trace::add(Lane lane, std::string name, std::unique_ptr<TimePoint> begin, std::unique_ptr<TimePoint> end) {
  if (!started_) return;
  const std::lock_guard lock(mutex_);
  on_device_.push_back({lane, std::move(name), std::move(begin), std::move(end)});
}

void Trace::add(Lane lane, std::string name, double begin, double end) {
  if (!started_) return;
  const std::lock_guard lock(mutex_);
  on_host_.push_back({lane, std::move(name), begin - host_origin_, end - host_origin_});
}

std::vector<Trace::Span> Trace::spans() const {
  const std::lock_guard lock(mutex_);
  std::vector<Span> all = on_host_;
  for (const OnDevice& s : on_device_)
    all.push_back({s.lane, s.name, s.begin->seconds_since(*origin_), s.end->seconds_since(*origin_)});
  std::ranges::stable_sort(
      all, [](const Span& a, const Span& b) { return a.begin != b.begin ? a.begin < b.begin : a.end > b.end; });
  return all;
}

Phase::Phase(const char* name) : name_(name), trace_(Trace::current()) {
  cuda::begin_range(name);
  if (trace_ == nullptr || !trace_->started()) {
    trace_ = nullptr;
    return;
  }
  host_begin_ = seconds_now();
  begin_ = trace_->queue().now();
}

void Phase::end() {
  if (name_ == nullptr) return;
  if (trace_ != nullptr) {
    trace_->add(Trace::Lane::compute, name_, std::move(begin_), trace_->queue().now());
    trace_->add(Trace::Lane::host, name_, host_begin_, seconds_now());
  }
  cuda::end_range();
  name_ = nullptr;
}

}  // namespace muonp::core
