#include "dist/plan/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "core/base/error.h"
#include "dist/plan/timeline.h"

namespace muonp::dist {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

// Hosts of two ranks on which every rate is a round number.
Cluster round_cluster(bool gpus = false) {
  HostRates rates{.memory = 1e6, .launch_seconds = 0, .read_seconds = 0};
  rates.products = {{core::Dtype::float32, 64, 1e9}, {core::Dtype::float32, 256, 4e9}};
  rates.spectral = {{core::Dtype::float32, 64, 1e9}};
  for (const Pattern pattern :
       {Pattern::all_reduce, Pattern::reduce_scatter, Pattern::all_gather, Pattern::exchange, Pattern::values})
    rates.links.push_back({pattern, 2, 0.5, 1e6});
  Cluster cluster{.name = "round", .source = "measured", .gpus = gpus, .hosts = 8, .ranks_per_host = 2, .memory_bytes = 1e9};
  cluster.network_latency = 2;
  cluster.network_bytes = 1e5;
  cluster.rates = {rates};
  return cluster;
}

TEST(Cluster, RatesOfProductsBetweenAndBeyondTheSizesThatAreKnown) {
  const Cluster cluster = round_cluster();
  const ClusterView view(cluster, 1);
  const auto rate = [&](double size) { return 1e9 / view.product_seconds(core::Dtype::float32, {1e9, size}); };
  EXPECT_DOUBLE_EQ(rate(64), 1e9);
  EXPECT_DOUBLE_EQ(rate(256), 4e9);
  EXPECT_NEAR(rate(128), 2e9, 1);  // in the logarithms of both
  EXPECT_DOUBLE_EQ(rate(32), 0.5e9);
  EXPECT_DOUBLE_EQ(rate(1024), 4e9);
  EXPECT_DOUBLE_EQ(product_size(1, 8, 27), 6);
  EXPECT_THAT(
      [&] {
        view.product_seconds(core::Dtype::float16, {1, 64});
      },
      ThrowsMessage<core::Error>(HasSubstr("has no product rate of float16; it has float32")));
}

TEST(Cluster, OnAHostLinksBoundAndBetweenHostsTheNetwork) {
  const Cluster cluster = round_cluster();
  const ClusterView two(cluster, 2), four(cluster, 4);
  const Elapsed near = two.communication(Pattern::reduce_scatter, 3e6, 1);
  EXPECT_DOUBLE_EQ(near.waiting, 0.5);
  EXPECT_DOUBLE_EQ(near.moving, 3);
  EXPECT_EQ(near.moves, Bound::links);
  // In pairs two of three others are on another host, and both ranks of a host send there.
  const Elapsed far = four.communication(Pattern::reduce_scatter, 3e6, 3);
  EXPECT_DOUBLE_EQ(far.waiting, 6);
  EXPECT_DOUBLE_EQ(far.moving, 2 * 3e6 * 2 / 3 / 1e5);
  EXPECT_EQ(far.moves, Bound::network);
  // In rings a host sends on what one of its ranks sends.
  const Cluster gpus = round_cluster(true);
  const ClusterView rings(gpus, 4);
  EXPECT_DOUBLE_EQ(rings.communication(Pattern::reduce_scatter, 3e6, 2).moving, 3e6 / 1e5);
  EXPECT_DOUBLE_EQ(rings.communication(Pattern::exchange, 3e6, 2).moving, 2 * 3e6 * 2 / 3 / 1e5);
  EXPECT_EQ(ClusterView(cluster, 1).communication(Pattern::exchange, 3e6, 2).seconds(), 0);
}

TEST(Cluster, RoundsOfMessages) {
  const Cluster cluster = round_cluster(), of_gpus = round_cluster(true);
  const ClusterView pairs(cluster, 6), rings(of_gpus, 6);
  EXPECT_EQ(pairs.rounds(Pattern::all_gather, false), 5);
  EXPECT_EQ(pairs.rounds(Pattern::all_reduce, false), 10);
  EXPECT_EQ(pairs.rounds(Pattern::all_reduce, true), 3);
  EXPECT_EQ(pairs.rounds(Pattern::values, true), 3);
  EXPECT_EQ(rings.rounds(Pattern::all_gather, false), 3);
  EXPECT_EQ(rings.rounds(Pattern::all_reduce, true), 6);
}

TEST(Cluster, RanksFillHosts) {
  const Cluster cluster = round_cluster();
  EXPECT_EQ(ClusterView(cluster, 16).ranks_on_host(), 2);
  EXPECT_EQ(ClusterView(cluster, 1).memory_of_rank(), 1e9);
  EXPECT_EQ(ClusterView(cluster, 4).memory_of_rank(), 5e8);
  EXPECT_THAT([&] { ClusterView(cluster, 5); }, ThrowsMessage<core::Error>(HasSubstr("do not fill hosts of 2")));
  EXPECT_THAT([&] { ClusterView(cluster, 18); }, ThrowsMessage<core::Error>(HasSubstr("8 hosts of 2 ranks, 16 in all")));
  Cluster one = cluster;
  one.rates[0].ranks = 1;
  EXPECT_THAT([&] { ClusterView(one, 4); },
              ThrowsMessage<core::Error>(HasSubstr("rates of 1 ranks on a host, and none of 2")));
}

TEST(Cluster, WhatIsWrongIsNamed) {
  const auto expect = [](const std::function<void(Cluster&)>& damage, const std::string& words) {
    Cluster cluster = round_cluster();
    cluster.validate();
    damage(cluster);
    EXPECT_THAT([&] { cluster.validate(); }, ThrowsMessage<core::Error>(HasSubstr("cluster round: " + words)));
  };
  expect([](Cluster& c) { c.rates[0].memory = -1; }, "rates.0.memory_bytes_per_second: -1");
  expect([](Cluster& c) { c.rates[0].overlap = 1.5; }, "rates.0.overlap: 1.5");
  expect([](Cluster& c) { c.rates[0].links.pop_back(); }, "rates.0.links: no rate of values");
  expect([](Cluster& c) { c.rates[0].links[0].bytes_per_second = 0; }, "rates.0.links.bytes_per_second: 0");
  expect([](Cluster& c) { c.rates[0].links[1] = c.rates[0].links[0]; }, "rates.0.links: two rates of all_reduce");
  expect([](Cluster& c) { c.rates[0].products.clear(); }, "rates.0.products: no rate");
  expect([](Cluster& c) { c.rates.push_back(c.rates[0]); }, "rates.1.ranks: rates of 0 ranks");
  expect([](Cluster& c) { c.network_bytes = 0; }, "network.bytes_per_second: 0");
  expect([](Cluster& c) { c.rates.clear(); }, "rates: none");
}

// ---- timeline ----

TimelineTask task(Stream stream, double seconds, std::vector<int> after = {}, int phase = 0) {
  TimelineTask t{.stream = stream, .phase = phase, .after = std::move(after)};
  t.parts[static_cast<std::size_t>(stream == Stream::communication ? Bound::links : Bound::products)] = seconds;
  return t;
}

TEST(Timeline, StreamsRunBesideEachOtherAndTasksWait) {
  Timeline line(1);
  const int a = line.add(task(Stream::compute, 2));
  const int sent = line.add(task(Stream::communication, 3, {a}, 1));
  const int b = line.add(task(Stream::compute, 1));
  const int c = line.add(task(Stream::compute, 1, {sent}));
  line.run();
  EXPECT_DOUBLE_EQ(line.finish(a), 2);
  EXPECT_DOUBLE_EQ(line.finish(b), 3);
  EXPECT_DOUBLE_EQ(line.finish(sent), 5);
  EXPECT_DOUBLE_EQ(line.finish(c), 6);
  const auto critical = line.critical(0, 6, 2);
  EXPECT_DOUBLE_EQ(critical[0][static_cast<std::size_t>(Bound::products)], 3);
  EXPECT_DOUBLE_EQ(critical[1][static_cast<std::size_t>(Bound::links)], 3);
  const auto later = line.critical(1, 6, 2);
  EXPECT_DOUBLE_EQ(later[0][static_cast<std::size_t>(Bound::products)], 2);
}

TEST(Timeline, SpansAreWhatStreamsDoBetweenTwoTimes) {
  Timeline line(1);
  const int a = line.add(task(Stream::compute, 2));
  const int sent = line.add(task(Stream::communication, 3, {a}, 1));
  line.add(task(Stream::compute, 1));
  line.add(task(Stream::compute, 1, {}, 2));
  line.add(task(Stream::compute, 1, {sent}, 2));
  line.run();
  const std::vector<TimelineSpan> spans = line.spans(1, 5.5);
  ASSERT_EQ(spans.size(), 4u);
  const auto expect_span = [&](std::size_t i, Stream stream, int phase, double start, double finish) {
    EXPECT_EQ(spans[i].stream, stream) << i;
    EXPECT_EQ(spans[i].phase, phase) << i;
    EXPECT_DOUBLE_EQ(spans[i].start, start) << i;
    EXPECT_DOUBLE_EQ(spans[i].finish, finish) << i;
  };
  expect_span(0, Stream::compute, 0, 1, 3);  // two tasks, of which the first had begun
  expect_span(1, Stream::compute, 2, 3, 4);
  expect_span(2, Stream::compute, 2, 5, 5.5);  // after a pause
  expect_span(3, Stream::communication, 1, 2, 5);
}

TEST(Timeline, WhatOverlapsInPartSlowsBoth) {
  for (const double overlap : {0.0, 0.25, 1.0})
    for (const double sent : {1.0, 2.0, 5.0}) {
      Timeline line(overlap);
      line.add(task(Stream::compute, 2));
      line.add(task(Stream::communication, sent));
      const int last = line.add(task(Stream::compute, 0, {0, 1}));
      line.run();
      EXPECT_NEAR(line.finish(last), 2 + sent - overlap * std::min(2.0, sent), 1e-12) << overlap << " " << sent;
    }
}

TEST(Timeline, AShorterTaskNeverEndsTheWholeLater) {
  const auto length = [](double overlap, std::array<double, 6> seconds) {
    Timeline line(overlap);
    const int a = line.add(task(Stream::compute, seconds[0]));
    const int x = line.add(task(Stream::communication, seconds[1], {a}));
    line.add(task(Stream::compute, seconds[2]));
    const int y = line.add(task(Stream::communication, seconds[3], {line.size() - 1}));
    line.add(task(Stream::compute, seconds[4], {x}));
    const int last = line.add(task(Stream::compute, seconds[5], {y}));
    line.run();
    return line.finish(last);
  };
  for (const double overlap : {0.0, 0.4, 1.0})
    for (const double first : {0.5, 3.0})
      for (const double second : {0.5, 3.0}) {
        const std::array<double, 6> seconds = {1, first, 2, second, 1.5, 0.5};
        for (std::size_t i = 0; i < seconds.size(); ++i) {
          std::array<double, 6> shorter = seconds;
          shorter[i] *= 0.5;
          EXPECT_LE(length(overlap, shorter), length(overlap, seconds) + 1e-12) << overlap << " " << i;
        }
      }
}

TEST(Timeline, TheHostRunsAhead) {
  Timeline line(1);
  const int submitted = line.add(task(Stream::host, 1));
  const int a = line.add(task(Stream::compute, 5, {submitted}));
  const int next = line.add(task(Stream::host, 1));
  const int b = line.add(task(Stream::compute, 1, {next}));
  line.run();
  EXPECT_DOUBLE_EQ(line.finish(a), 6);
  EXPECT_DOUBLE_EQ(line.finish(next), 2);
  EXPECT_DOUBLE_EQ(line.finish(b), 7);
}

}  // namespace
}  // namespace muonp::dist
