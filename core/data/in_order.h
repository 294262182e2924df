// Work on parts of something long, by several threads, whose results are taken in the order of the parts.
#pragma once

#include <algorithm>
#include <chrono>
#include <deque>
#include <future>
#include <optional>

#include "core/data/preparation.h"

namespace muonp::core {

// next() → std::optional<Part>, nothing at the end; work(Part) → Result, on threads of its own, `threads` at once;
// take(Result), in order. next() and take() are called by the caller's thread. What any of them or `poll` throws comes out
// when the work under way has ended; so a part should not take longer than a second.
template <class Next, class Work, class Take>
void work_in_order(int threads, const Poll& poll, const Next& next, const Work& work, const Take& take) {
  using Result = decltype(work(*next()));
  std::deque<std::future<Result>> under_way;  // a destroyed future of std::async waits for its work
  for (bool more = true; more || !under_way.empty();) {
    while (more && under_way.size() < static_cast<std::size_t>(std::max(1, threads))) {
      auto part = next();
      more = part.has_value();
      if (more) under_way.push_back(std::async(std::launch::async, [&work, p = *std::move(part)] { return work(p); }));
    }
    if (under_way.empty()) return;
    do {
      if (poll) poll();
    } while (under_way.front().wait_for(std::chrono::milliseconds(200)) != std::future_status::ready);
    Result result = under_way.front().get();
    under_way.pop_front();
    take(std::move(result));
  }
}

}  // namespace muonp::core
