#include "dist/comm/async.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "dist/comm/decorators.h"
#include "dist/comm/local.h"
#include "dist/comm/thread.h"
#include "tests/dist/expect_error.h"

namespace muonp::test {
namespace {

using dist::AsyncQueue;
using Mode = AsyncQueue::Mode;

class AsyncQueues : public testing::TestWithParam<Mode> {};
INSTANTIATE_TEST_SUITE_P(Modes, AsyncQueues, testing::Values(Mode::worker, Mode::inline_),
                         [](const auto& mode) { return mode.param == Mode::worker ? "Worker" : "Inline"; });

TEST_P(AsyncQueues, RunsInOrderOfSubmission) {
  AsyncQueue queue(GetParam());
  std::vector<int> order;
  for (int i = 0; i < 1000; ++i) queue.submit([&order, i] { order.push_back(i); });
  queue.drain();
  ASSERT_EQ(order.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST_P(AsyncQueues, WaitMakesResultsVisible) {
  AsyncQueue queue(GetParam());
  queue.wait({});
  int a = 0, b = 0;
  const auto first = queue.submit([&] { a = 1; });
  const auto second = queue.submit([&] { b = a + 1; });
  queue.wait(second);
  EXPECT_EQ(b, 2);
  queue.wait(first);
  queue.wait(second);
  EXPECT_EQ(a, 1);
}

TEST_P(AsyncQueues, AFailureIsDeliveredAndEndsTheQueue) {
  AsyncQueue queue(GetParam());
  bool ran_later = false;
  const auto before = queue.submit([] {});
  const auto failing = queue.submit([] { core::fail("the link is down"); });
  try {  // with a worker, the failure may or may not be known here
    queue.submit([&] { ran_later = true; });
  } catch (const core::Error&) {
  }
  queue.wait(before);
  for (int i = 0; i < 2; ++i) {
    expect_error<core::Error>([&] { queue.wait(failing); }, std::string("the link is down"));
    expect_error<core::Error>([&] { queue.drain(); }, std::string("the link is down"));
    expect_error<core::Error>([&] { queue.submit([] {}); }, std::string("the link is down"));
  }
  EXPECT_FALSE(ran_later);
}

TEST_P(AsyncQueues, TimesTheCallerWhileItStandsStill) {
  const auto device = core::make_cpu_device(1);
  core::Stopwatch waits(device->queue(), "communication");
  AsyncQueue queue(GetParam(), &waits);
  std::atomic<bool> waiting = false;
  const auto ticket = queue.submit([&] {
    while (GetParam() == Mode::worker && !waiting) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  });
  waiting = true;
  queue.wait(ticket);
  EXPECT_GE(core::seconds(waits.take()), 0.05);  // of the half second; this thread may have come late
  queue.wait(ticket);
  queue.drain();
  EXPECT_TRUE(waits.take().empty());
}

// What a communicator on a stream is told, in order.
class Overlaps final : public dist::Decorator {
 public:
  using Decorator::Decorator;
  void begin_overlap() override { calls.push_back("begin"); }
  dist::Mark end_overlap() override {
    calls.push_back("end");
    return {++marks};
  }
  void wait_for(dist::Mark mark) override { calls.push_back(fmt::format("wait {}", mark.number)); }
  std::vector<std::string> calls;
  std::uint64_t marks = 0;

 private:
  bool before(const dist::Operation& operation) override {
    calls.emplace_back(name_of(operation.kind));
    return true;
  }
};

TEST(AsyncQueue, StreamWorkRunsInSubmitWithinAnOverlap) {
  const auto local = dist::make_local();
  Overlaps overlaps(*local);
  AsyncQueue queue(overlaps);
  queue.wait({});
  queue.drain();
  overlaps.calls.clear();
  const auto first = queue.submit([&] { overlaps.barrier(); });
  const auto second = queue.submit([&] { overlaps.barrier(); });
  queue.wait(first);
  queue.wait(second);
  queue.drain();
  EXPECT_THAT(overlaps.calls,
              testing::ElementsAre("begin", "barrier", "end", "begin", "barrier", "end", "wait 1", "wait 2", "wait 2"));
}

TEST(AsyncQueue, AStreamsFailureIsDeliveredAndItsOverlapEnds) {
  const auto local = dist::make_local();
  Overlaps overlaps(*local);
  AsyncQueue queue(overlaps);
  const auto before = queue.submit([] {});
  const auto failing = queue.submit([] { core::fail("the link is down"); });
  EXPECT_THAT(overlaps.calls, testing::ElementsAre("begin", "end", "begin", "end"));
  queue.wait(before);
  expect_error<core::Error>([&] { queue.wait(failing); }, std::string("the link is down"));
  expect_error<core::Error>([&] { queue.drain(); }, std::string("the link is down"));
  expect_error<core::Error>([&] { queue.submit([] {}); }, std::string("the link is down"));
  EXPECT_EQ(overlaps.calls.back(), "wait 1");
}

TEST(AsyncQueue, AStreamNeedsItsCommunicator) { EXPECT_THROW(AsyncQueue(Mode::stream), core::InternalError); }

TEST(AsyncQueue, DestructionDiscardsWhatHasNotStarted) {
  std::atomic<int> ran = 0;
  std::atomic<bool> started = false;
  {
    AsyncQueue queue(Mode::worker);
    queue.submit([&] {
      started = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      ++ran;
    });
    queue.submit([&] { ++ran; });
    while (!started) std::this_thread::yield();
  }
  EXPECT_EQ(ran, 1);
}

TEST(AsyncQueue, Pitfall35_ConstructAndDestroyInALoop) {
  int runs = 0;
  for (int i = 0; i < 300; ++i) {
    AsyncQueue queue(Mode::worker);
    if (i % 3 == 0) continue;
    queue.submit([&] { ++runs; });
    if (i % 3 == 1) queue.drain();
  }
  EXPECT_GE(runs, 100);
}

// What the trainer does: reductions run behind the computation and are waited for at the end.
TEST(AsyncQueue, CollectivesBehindComputationOnAllRanks) {
  dist::run_ranks(4, [](dist::Communicator& comm) {
    std::vector<std::vector<float>> buckets(6, std::vector<float>(4 * 333));
    AsyncQueue queue(Mode::worker);
    std::vector<AsyncQueue::Ticket> tickets;
    for (std::size_t b = 0; b < buckets.size(); ++b) {
      for (float& x : buckets[b]) x = static_cast<float>(b + 1);  // the backward pass of this bucket
      const dist::Span span(buckets[b].data(), 4 * 333, core::Dtype::float32);
      tickets.push_back(queue.submit([&comm, span] { comm.all_reduce(span, dist::Reduce::sum); }));
    }
    for (std::size_t b = 0; b < buckets.size(); ++b) {
      queue.wait(tickets[b]);
      EXPECT_EQ(buckets[b][777], 4.0f * static_cast<float>(b + 1));
    }
  });
}

TEST(AsyncQueue, ARankThatFailsEndsTheWorkersOfOthers) {
  const auto body = [](dist::Communicator& comm) {
    AsyncQueue queue(Mode::worker);
    if (comm.rank() == 1) core::fail("out of data");
    queue.submit([&] { comm.barrier(); });
    queue.drain();
  };
  expect_error<core::Error>([&] { dist::run_ranks(3, body); }, testing::HasSubstr("rank 1 of 3: out of data"));
}

}  // namespace
}  // namespace muonp::test
