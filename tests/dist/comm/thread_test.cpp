#include "dist/comm/thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "dist/comm/decorators.h"
#include "dist/comm/local.h"
#include "tests/dist/comm/communicator_checks.h"
#include "tests/dist/expect_error.h"

namespace muonp::test {
namespace {

using dist::Communicator;
using dist::Reduce;
using dist::run_ranks;
using testing::AllOf;
using testing::HasSubstr;

class Threads : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, Threads, testing::Values(1, 2, 3, 4, 5, 7));

TEST_P(Threads, EveryOperationIsExact) { run_ranks(GetParam(), check_everything); }
TEST_P(Threads, LongMessages) { run_ranks(std::min(GetParam(), 3), check_long_messages); }
TEST_P(Threads, Pitfall28_CountsAreElementsAndGuardBandsStay) {
  run_ranks(GetParam(), check_reduce_scatter);
  run_ranks(GetParam(), check_exchange);
}

TEST_P(Threads, RanksAndSizeAreNamed) {
  std::atomic<int> seen = 0;
  run_ranks(GetParam(), [&](Communicator& comm) {
    EXPECT_EQ(comm.size(), GetParam());
    seen += 1 << comm.rank();
  });
  EXPECT_EQ(seen, (1 << GetParam()) - 1);
}

TEST_P(Threads, SumsDoNotDependOnTheCutOrOnTiming) {
  std::vector<std::vector<std::uint32_t>> first(static_cast<std::size_t>(GetParam())), second(first);
  const auto run = [&](auto& to, std::int64_t delay) {
    run_ranks(GetParam(), [&](Communicator& comm) {
      dist::Delayed delayed(comm, std::chrono::microseconds(delay), 3);
      to[static_cast<std::size_t>(comm.rank())] = bits_of_rough_sums(delayed);
    });
  };
  run(first, 0);
  run(second, 2000);
  EXPECT_EQ(first, second);
}

TEST_P(Threads, Pitfall43_OneRankThrowsAndAllEnd) {
  const int n = GetParam(), bad = n - 1;
  std::atomic<int> ended = 0;
  const auto body = [&](Communicator& comm) {
    const struct Count {
      std::atomic<int>& to;
      ~Count() { ++to; }
    } count{ended};
    comm.barrier();
    if (comm.rank() == bad) core::fail("the disk is full");
    for (;;) comm.barrier();
  };
  expect_error<core::Error>([&] { run_ranks(n, body); },
                            AllOf(HasSubstr(fmt::format("rank {} of {}: ", bad, n)), HasSubstr("the disk is full")));
  EXPECT_EQ(ended, n);
}

TEST(ThreadFailures, OthersAreToldWhy) {
  std::atomic<int> told = 0;
  const auto body = [&](Communicator& comm) {
    if (comm.rank() == 2) core::fail("no such file");
    try {
      comm.barrier();
    } catch (const core::Error& e) {
      told += std::string(e.what()) == "rank 2 of 3 failed: no such file";
      throw;
    }
  };
  EXPECT_THROW(run_ranks(3, body), core::Error);
  EXPECT_EQ(told, 2);
}

TEST(ThreadFailures, TheKindOfErrorIsKept) {
  const auto broken = [](Communicator& comm) { MUONP_ASSERT(comm.rank() != 1, "a defect"); };
  expect_error<core::InternalError>([&] { run_ranks(2, broken); }, HasSubstr("rank 1 of 2: "));
  const auto odd = [](Communicator&) { throw 7; };
  expect_error<core::Error>([&] { run_ranks(1, odd); }, HasSubstr("rank 0 of 1: "));
}

TEST(ThreadFailures, AbortEndsPendingAndLaterOperations) {
  std::atomic<int> failures = 0;
  run_ranks(3, [&](Communicator& comm) {
    if (comm.rank() == 0) comm.abort("enough");
    for (int i = 0; i < 2; ++i) {
      expect_error<core::Error>([&] { comm.barrier(); }, HasSubstr("enough"));
      ++failures;
    }
  });
  EXPECT_EQ(failures, 6);
}

TEST(ThreadFailures, ARankThatEndsEarlyIsNamed) {
  const auto body = [](Communicator& comm) {
    comm.barrier();
    if (comm.rank() != 1) comm.barrier();
  };
  expect_error<core::Error>([&] { run_ranks(3, body); }, HasSubstr("rank 1 has ended while others wait"));
}

TEST(ThreadFailures, Pitfall29_DifferencesBetweenRanksAreNamed) {
  const auto differ = [](auto call) {
    return [call](Communicator& comm) {
      std::vector<float> data(64);
      call(comm, comm.rank() == 2, dist::Span(data.data(), 12, core::Dtype::float32));
    };
  };
  const auto kinds = differ([](Communicator& comm, bool odd, dist::Span data) {
    if (odd)
      comm.reduce_scatter(data);
    else
      comm.all_gather(data);
  });
  expect_error<core::Error>([&] { run_ranks(3, kinds); }, AllOf(HasSubstr("rank 0 calls all_gather of 12 float32"),
                                                                HasSubstr("rank 2 calls reduce_scatter of 12 float32")));
  const auto counts = differ(
      [](Communicator& comm, bool odd, dist::Span data) { comm.all_reduce(data.part(0, odd ? 11 : 12), Reduce::sum); });
  expect_error<core::Error>([&] { run_ranks(3, counts); }, HasSubstr("rank 2 calls all_reduce(sum) of 11 float32"));
  const auto roots = differ([](Communicator& comm, bool odd, dist::Span data) { comm.broadcast(data, odd ? 1 : 0); });
  expect_error<core::Error>([&] { run_ranks(3, roots); }, HasSubstr("broadcast of 12 float32 from rank 1"));
  const auto lengths = [](Communicator& comm) {
    std::vector<float> data(64);
    const dist::Transfer send{1, dist::Span(data.data(), 5, core::Dtype::float32)};
    const dist::Transfer receive{0, dist::Span(data.data() + 8, 6, core::Dtype::float32)};
    if (comm.rank() == 0)
      comm.exchange({&send, 1}, {});
    else
      comm.exchange({}, {&receive, 1});
  };
  expect_error<core::Error>([&] { run_ranks(2, lengths); },
                            HasSubstr("message 0 from rank 0 to rank 1 is 5 float32, where 6 float32 are expected"));
}

TEST(ThreadFailures, PreconditionsAreChecked) {
  run_ranks(2, [](Communicator& comm) {
    std::vector<float> data(8);
    const dist::Span odd(data.data(), 7, core::Dtype::float32);
    expect_error<core::InternalError>([&] { comm.reduce_scatter(odd); }, HasSubstr("slices are not equal"));
    expect_error<core::InternalError>([&] { comm.broadcast(odd, 2); }, HasSubstr("root 2 of 2 ranks"));
    expect_error<core::InternalError>([&] { comm.broadcast({nullptr, 3, core::Dtype::int32}, 0); }, HasSubstr("3"));
    comm.barrier();
  });
}

TEST(ThreadFailures, TwoThreadsInOneCommunicatorAreRefused) {
  run_ranks(2, [](Communicator& comm) {
    if (comm.rank() == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      return comm.barrier();
    }
    std::atomic<int> refused = 0;
    const auto enter = [&] {
      try {
        comm.barrier();
      } catch (const core::InternalError&) {
        ++refused;
      }
    };
    std::thread other(enter);
    enter();
    other.join();
    EXPECT_EQ(refused, 1);
  });
}

TEST(ThreadGroups, Pitfall35_ConstructAndDestroyInALoop) {
  for (int i = 0; i < 200; ++i) run_ranks(1 + i % 4, [](Communicator& comm) { comm.barrier(); });
}

TEST(Local, EveryOperationIsExact) { check_everything(*dist::make_local()); }

TEST(Local, ExchangeWithItselfIsChecked) {
  const auto comm = dist::make_local();
  std::vector<float> data(8);
  const dist::Transfer a{0, dist::Span(data.data(), 2, core::Dtype::float32)};
  const dist::Transfer b{0, dist::Span(data.data() + 4, 3, core::Dtype::float32)};
  expect_error<core::Error>([&] { comm->exchange({&a, 1}, {&b, 1}); }, HasSubstr("2 float32"));
  comm->abort("enough");
  expect_error<core::Error>([&] { comm->barrier(); }, HasSubstr("enough"));
}

}  // namespace
}  // namespace muonp::test
