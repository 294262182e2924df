#include "dist/mpi/mpi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>

#include "dist/comm/agreement.h"
#include "dist/comm/async.h"
#include "dist/comm/decorators.h"
#include "dist/comm/reduction.h"
#include "dist/comm/thread.h"
#include "ranks.h"
#include "tests/dist/comm/communicator_checks.h"
#include "tests/dist/expect_error.h"

namespace muonp::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(Mpi, ReduceScatter) { check_reduce_scatter(ranks()); }
TEST(Mpi, AllGather) { check_all_gather(ranks()); }
TEST(Mpi, AllReduce) { check_all_reduce(ranks()); }
TEST(Mpi, AllReduceOfDoubles) { check_all_reduce_values(ranks()); }
TEST(Mpi, Broadcast) { check_broadcast(ranks()); }
TEST(Mpi, Exchange) { check_exchange(ranks()); }
TEST(Mpi, AllGatherBytes) { check_all_gather_bytes(ranks()); }
TEST(Mpi, Bfloat16RoundsOnce) { check_bfloat16_rounds_once(ranks()); }
TEST(Mpi, NotANumberIsKept) { check_not_a_number_is_kept(ranks()); }
TEST(Mpi, LongMessages) { check_long_messages(ranks()); }

TEST(Mpi, ReductionsOfThousandsOfRanksAreNotCutShort) {
  EXPECT_EQ(dist::mpi_reduction_bytes(1), 1 << 20);
  EXPECT_EQ(dist::mpi_reduction_bytes(3), 1 << 20);
  for (int size = 2; size <= 33; ++size) EXPECT_LE(2 * (size - 1) * dist::mpi_reduction_bytes(size), 4 << 20);
  for (int size : {33, 34, 1000, 10'000}) EXPECT_EQ(dist::mpi_reduction_bytes(size), 64 << 10);
}

TEST(Mpi, Pitfall28_CountsAreElementsAndGuardBandsStay) {
  check_reduce_scatter(ranks());
  check_exchange(ranks());
}

TEST(Mpi, SameBitsAsThreads) {
  const std::vector<std::uint32_t> mine = bits_of_rough_sums(ranks());
  std::vector<std::uint32_t> threads;
  dist::run_ranks(ranks().size(), [&](dist::Communicator& comm) {
    const auto bits = bits_of_rough_sums(comm);
    if (comm.rank() == ranks().rank()) threads = bits;
  });
  EXPECT_EQ(mine, threads);
}

// Short and long ones take other ways, and must give the bits of sums in rank order.
template <class T>
void check_sums_in_rank_order(core::Dtype dtype, std::int64_t count) {
  std::vector<std::vector<T>> all(static_cast<std::size_t>(ranks().size()));
  std::vector<const void*> sources;
  for (int r = 0; r < ranks().size(); ++r) {
    std::vector<T>& of_rank = all[static_cast<std::size_t>(r)];
    for (std::int64_t i = 0; i < count; ++i) of_rank.push_back(static_cast<T>(rough(r, i)));
    sources.push_back(of_rank.data());
  }
  const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
  std::vector<T> data = all[static_cast<std::size_t>(ranks().rank())], expected(data.size());
  dist::reduce_in_order(sources, expected.data(), count, dtype, dist::Reduce::sum);
  ranks().all_reduce(dist::Span(data.data(), count, dtype), dist::Reduce::sum);
  EXPECT_EQ(std::memcmp(data.data(), expected.data(), bytes), 0) << count << " " << core::name_of(dtype);
}

TEST(Mpi, ShortAndLongSumsAreTakenInRankOrder) {
  ASSERT_EQ(dist::kShortBytes, 4096);
  for (std::int64_t count : {1, 7, 1023, 1024, 1025, 2048, 2049, 50'000}) {
    check_sums_in_rank_order<float>(core::Dtype::float32, count);
    check_sums_in_rank_order<core::bfloat16>(core::Dtype::bfloat16, count);
  }
}

// One rank may be the only one with something to say, and that longer than a message.
TEST(Mpi, TextsOfOneRankReachAll) {
  for (int from = 0; from < ranks().size(); ++from) {
    const std::string text(std::size_t{5} << 20, static_cast<char>('a' + from));
    std::vector<std::string> expected(static_cast<std::size_t>(ranks().size()));
    expected[static_cast<std::size_t>(from)] = text;
    EXPECT_TRUE(ranks().all_gather_bytes(ranks().rank() == from ? text : "") == expected) << "from rank " << from;
  }
}

TEST(Mpi, SameBitsWhenRanksDriftApart) {
  const std::vector<std::uint32_t> once = bits_of_rough_sums(ranks());
  dist::Delayed delayed(ranks(), std::chrono::milliseconds(3), 9);
  EXPECT_EQ(once, bits_of_rough_sums(delayed));
}

TEST(Mpi, ManyOperationsInARow) {  // tags wrap, nothing is left over
  for (int i = 0; i < 300; ++i) {
    double value[1] = {static_cast<double>(i)};
    ranks().all_reduce(value, dist::Reduce::sum);
    ASSERT_EQ(value[0], static_cast<double>(i) * ranks().size());
  }
  dist::Delayed delayed(ranks(), std::chrono::milliseconds(1), 4);
  check_exchange(delayed);
}

TEST(Mpi, SessionKnowsRanksAndHosts) {
  EXPECT_TRUE(dist::MpiSession::launched());
  EXPECT_EQ(session().size(), ranks().size());
  int before = 0, together = 0;
  for (int r = 0; r < session().size(); ++r) {
    const bool here = session().host_of(r) == session().host();
    together += here;
    before += here && r < session().rank();
  }
  EXPECT_EQ(session().local_rank(), before);
  EXPECT_EQ(session().local_size(), together);
  const char* expected = std::getenv("MUONP_TEST_HOSTS");
  const std::string hosts = expected == nullptr ? "1" : expected;
  EXPECT_EQ(std::to_string(session().hosts()), hosts);
  EXPECT_FALSE(session().host().empty());
  EXPECT_THAT(ranks().description(), AllOf(HasSubstr(session().library()), HasSubstr(" on " + hosts + " host")));
  expect_error<core::Error>([] { dist::MpiSession again; }, HasSubstr("started before"));
}

TEST(Mpi, Pitfall35_ConstructAndDestroyInALoop) {
  for (int i = 0; i < 100; ++i) {
    const auto comm = dist::make_mpi(session(), kRankTimeout);
    comm->barrier();
  }
}

// Rank 0 alone calls an operation; what it throws names who did not come.
TEST(Mpi, Pitfall43_AnOperationThatOthersDoNotReachTimesOut) {
  const auto comm = dist::make_mpi(session(), 0.3);
  if (ranks().rank() == 0 && ranks().size() > 1) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<float> data(static_cast<std::size_t>(ranks().size()) * 100);
    const dist::Span span(data.data(), ranks().size() * 100, core::Dtype::float32);
    expect_error<core::Error>([&] { comm->all_gather(span); },
                              AllOf(HasSubstr("all_gather of"), HasSubstr("(operation 0) made no progress for 0.3 s"),
                                    HasSubstr("on rank 0 of"), HasSubstr("nothing came from rank 1")));
    EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 5.0);
    expect_error<core::Error>([&] { comm->barrier(); }, HasSubstr("after an earlier failure: all_gather"));
  }
  ranks().barrier();
}

TEST(Mpi, Pitfall29_LengthsThatDifferAreAnError) {
  if (ranks().size() < 2) return;
  const auto comm = dist::make_mpi(session(), 2.0);
  std::vector<float> data(64);
  const dist::Transfer send{1, dist::Span(data.data(), 10, core::Dtype::float32)};
  for (std::int64_t expected : {12, 8}) {
    const dist::Transfer receive{0, dist::Span(data.data() + 20, expected, core::Dtype::float32)};
    const auto fresh = dist::make_mpi(session(), 2.0);
    if (ranks().rank() == 0) fresh->exchange({&send, 1}, {});
    if (ranks().rank() == 1)
      expect_error<core::Error>(
          [&] {
            fresh->exchange({}, {&receive, 1});
          },
          AllOf(HasSubstr(fmt::format("expects {} bytes from rank 0", expected * 4)),
                HasSubstr(expected == 12 ? "which sent 40" : "which sent more")));
    ranks().barrier();
  }
  const auto differs = dist::make_mpi(session(), 2.0);  // an all_reduce that is short on rank 0 only
  if (ranks().rank() < 2) {
    static std::vector<float> sums(1100);  // stays: messages of an operation that failed may still be under way
    const std::int64_t count = ranks().rank() == 0 ? 700 : 1100;
    const dist::Span span(sums.data(), count, core::Dtype::float32);
    expect_error<core::Error>([&] { differs->all_reduce(span, dist::Reduce::sum); },
                              HasSubstr(fmt::format("all_reduce(sum) of {} float32", count)));
  }
  ranks().barrier();
  dist::Checking checking(*comm);
  const dist::Transfer receive{0, dist::Span(data.data() + 20, 12, core::Dtype::float32)};
  const auto call = [&] {
    if (ranks().rank() == 0)
      checking.exchange({&send, 1}, {});
    else if (ranks().rank() == 1)
      checking.exchange({}, {&receive, 1});
    else
      checking.exchange({}, {});
  };
  expect_error<core::Error>(call, HasSubstr("message 0 from rank 0 to rank 1 is 10 float32, where 12 float32"));
  checking.barrier();
}

TEST(Mpi, Pitfall45_OneRankFailsAndAllThrowTheSame) {
  const int bad = ranks().size() - 1;
  const auto load = [&] {
    dist::run_on_all(ranks(), [&] {
      if (ranks().rank() == bad) core::fail("train.bin ends at byte 3");
    });
  };
  expect_error<dist::AgreedError>(load, HasSubstr("train.bin ends at byte 3"));
  ranks().barrier();
}

TEST(Mpi, CollectivesFromAWorkerThread) {
  std::vector<float> data(1000 * static_cast<std::size_t>(ranks().size()), 1.0f);
  const dist::Span span(data.data(), static_cast<std::int64_t>(data.size()), core::Dtype::float32);
  dist::AsyncQueue queue(dist::AsyncQueue::Mode::worker);
  for (int i = 0; i < 10; ++i) queue.submit([&] { ranks().all_reduce(span, dist::Reduce::max); });
  queue.drain();
  ranks().barrier();
  EXPECT_EQ(data[17], 1.0f);
}

}  // namespace
}  // namespace muonp::test
