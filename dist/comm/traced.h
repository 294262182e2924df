// A communicator whose operations are spans of a trace.
#pragma once

#include <functional>

#include "core/device/trace.h"
#include "dist/comm/decorators.h"

namespace muonp::dist {

// "all_gather of 12 float32", on the lane of communication. `now` is a moment of the stream that operations run on; without
// it they have ended when they return, and the calling thread's time is taken.
class Traced final : public Decorator {
 public:
  using Moment = std::function<std::unique_ptr<core::TimePoint>()>;
  Traced(Communicator& inner, core::Trace& trace, Moment now = {}) : Decorator(inner), trace_(trace), now_(std::move(now)) {}

 private:
  bool before(const Operation& operation) override;
  void after(const Operation& operation) override;

  core::Trace& trace_;
  Moment now_;
  std::unique_ptr<core::TimePoint> begin_;  // of the operation under way
  double host_begin_ = 0;
};

}  // namespace muonp::dist
