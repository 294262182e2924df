#include "dist/comm/traced.h"

#include "core/base/clock.h"

namespace muonp::dist {

bool Traced::before(const Operation&) {
  if (now_)
    begin_ = now_();
  else
    host_begin_ = core::seconds_now();
  return true;
}

void Traced::after(const Operation& operation) {
  constexpr auto lane = core::Trace::Lane::communication;
  if (now_)
    trace_.add(lane, describe(operation), std::move(begin_), now_());
  else
    trace_.add(lane, describe(operation), host_begin_, core::seconds_now());
}

}  // namespace muonp::dist
