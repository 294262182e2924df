// Phases of a thread and the trace of it, on the CPU's queue and on a stream of a GPU.
#include "core/device/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "core/base/clock.h"
#include "core/device/stopwatch.h"
#include "tests/support/test_device.h"

namespace muonp::core {
namespace {

using Lane = Trace::Lane;

void wait(int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }

std::vector<Trace::Span> of_lane(const Trace& trace, Lane lane) {
  std::vector<Trace::Span> spans = trace.spans();
  std::erase_if(spans, [&](const Trace::Span& s) { return s.lane != lane; });
  return spans;
}

TEST(Trace, PhasesAreSpansOfHostAndQueueThatNest) {
  const auto device = test::make_test_device(1);
  Trace trace(device->queue());
  trace.start();
  {
    const Phase outer("outer");
    wait(3);
    Phase inner("inner");
    wait(3);
    inner.end();
    wait(3);
  }
  for (const Lane lane : {Lane::host, Lane::compute}) {
    const std::vector<Trace::Span> spans = of_lane(trace, lane);
    ASSERT_EQ(spans.size(), 2u);
    EXPECT_EQ(spans[0].name, "outer");
    EXPECT_EQ(spans[1].name, "inner");
    EXPECT_GE(spans[0].begin, 0);
    EXPECT_LE(spans[0].begin, spans[1].begin);
    EXPECT_LE(spans[1].end, spans[0].end);
    if (lane == Lane::compute && test::on_gpu()) continue;  // where nothing was submitted, no time passes
    EXPECT_GE(spans[1].end - spans[1].begin, 0.003);
    EXPECT_GE(spans[0].end - spans[0].begin, 0.009);
  }
}

TEST(Trace, RecordsFromItsStartToItsEndAndOnItsThreadAlone) {
  const auto device = test::make_test_device(1);
  { const Phase before("before any trace"); }
  {
    Trace trace(device->queue());
    { const Phase before("before the start"); }
    trace.start();
    std::jthread([] { const Phase other("of another thread"); }).join();
    EXPECT_TRUE(trace.spans().empty());
    { const Phase recorded("recorded"); }
    EXPECT_EQ(trace.spans().size(), 2u);
  }
  EXPECT_EQ(Trace::current(), nullptr);
  const Phase after("after it");  // finds no trace that is gone
}

TEST(Trace, OtherThreadsAddSpansInTheTimeOfTheSameClock) {
  const auto device = test::make_test_device(1);
  Trace trace(device->queue());
  trace.add(Lane::communication, "too early", 0, 1);
  trace.start();
  const double begin = seconds_now();
  std::jthread([&] { trace.add(Lane::communication, "message", seconds_now(), seconds_now() + 1); }).join();
  std::unique_ptr<TimePoint> on_device = device->queue().now();
  trace.add(Lane::communication, "on the device", std::move(on_device), device->queue().now());
  const std::vector<Trace::Span> spans = of_lane(trace, Lane::communication);
  ASSERT_EQ(spans.size(), 2u);
  for (const Trace::Span& s : spans) {
    EXPECT_GE(s.begin, 0);
    EXPECT_LE(s.begin, seconds_now() - begin + 1);
    EXPECT_GE(s.end, s.begin);
  }
}

TEST(Trace, LapsOfAStopwatchAreSpansAsLongAsTheyAre) {
  const auto device = test::make_test_device(1);
  Trace trace(device->queue());
  trace.start();
  Stopwatch watch(device->queue(), "spectral");
  for (int i = 0; i < 2; ++i) watch.time([] { wait(5); });
  const std::vector<Trace::Span> spans = of_lane(trace, Lane::compute);
  ASSERT_EQ(spans.size(), 2u);
  double sum = 0;
  for (const Trace::Span& s : spans) {
    EXPECT_EQ(s.name, "spectral");
    sum += s.end - s.begin;
  }
  EXPECT_GE(sum + 1e-6, seconds(watch.take()));
}

}  // namespace
}  // namespace muonp::core
