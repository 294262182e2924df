#include "dist/comm/decorators.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dist/comm/thread.h"
#include "tests/dist/comm/communicator_checks.h"
#include "tests/dist/expect_error.h"

namespace muonp::test {
namespace {

using core::Dtype;
using dist::Communicator;
using dist::OperationKind;
using dist::Recording;
using dist::Reduce;
using dist::run_ranks;
using testing::AllOf;
using testing::HasSubstr;

class Decorators : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, Decorators, testing::Values(1, 2, 3, 4));

TEST_P(Decorators, ForwardEverything) {
  run_ranks(GetParam(), [](Communicator& comm) {
    Recording recording(comm);
    dist::Checking checking(recording);
    dist::Faulty never(checking, -1, dist::Fault::error);
    check_everything(never);
    EXPECT_EQ(never.rank(), comm.rank());
    EXPECT_EQ(never.description(), comm.description());
  });
}

// The formulas of dist/comm/operation.h, with counts that the number of ranks divides, and longer than short.
TEST_P(Decorators, Pitfall26_BytesEqualTheFormula) {
  const int n = GetParam();
  run_ranks(n, [n](Communicator& comm) {
    Recording recording(comm);
    const std::int64_t slice = 1500, bytes = slice * n * 4;
    std::vector<float> data(static_cast<std::size_t>(slice * n)), inbox(100);
    const dist::Span span(data.data(), slice * n, Dtype::float32);
    recording.reduce_scatter(span);
    recording.all_gather(span);
    recording.all_reduce(span, Reduce::max);
    recording.broadcast(span, 0);
    double values[3] = {};
    recording.all_reduce(values, Reduce::sum);
    recording.all_gather_bytes("12345");
    const dist::Transfer to_next{(comm.rank() + 1) % n, {data.data(), 10, Dtype::float32}};
    const dist::Transfer to_self{comm.rank(), {data.data(), 20, Dtype::bfloat16}};
    const dist::Transfer from_before{(comm.rank() + n - 1) % n, {inbox.data(), 10, Dtype::float32}};
    const dist::Transfer from_self{comm.rank(), {inbox.data() + 50, 20, Dtype::bfloat16}};
    const std::vector<dist::Transfer> sends = {to_next, to_self}, receives = {from_before, from_self};
    recording.exchange(sends, receives);
    recording.barrier();

    const auto sent = [&](OperationKind kind) { return recording.total(kind).bytes; };
    EXPECT_EQ(sent(OperationKind::reduce_scatter), (n - 1) * bytes / n);
    EXPECT_EQ(sent(OperationKind::all_gather), (n - 1) * bytes / n);
    EXPECT_EQ(sent(OperationKind::all_reduce), 2 * (n - 1) * bytes / n);
    EXPECT_EQ(sent(OperationKind::broadcast), (comm.rank() == 0 ? 2 * (n - 1) : n - 2) * bytes / n);
    EXPECT_EQ(sent(OperationKind::all_reduce_values), (n - 1) * 3 * 8);
    EXPECT_EQ(sent(OperationKind::all_gather_bytes), (n - 1) * (8 + 5));
    EXPECT_EQ(sent(OperationKind::exchange), n == 1 ? 0 : 40);
    EXPECT_EQ(sent(OperationKind::barrier), 0);
    EXPECT_EQ(recording.total().calls, 8);
    ASSERT_EQ(recording.records().size(), 8u);
    EXPECT_EQ(recording.records()[0].kind, OperationKind::reduce_scatter);
    EXPECT_EQ(recording.records()[0].count, slice * n);
    recording.clear();
    EXPECT_EQ(recording.total().calls, 0);
    EXPECT_TRUE(recording.records().empty());
  });
}

TEST(Recording, TotalsAloneDoNotGrow) {
  run_ranks(2, [](Communicator& comm) {
    Recording recording(comm, Recording::Keep::totals);
    for (int i = 0; i < 5; ++i) recording.barrier();
    EXPECT_EQ(recording.total(OperationKind::barrier).calls, 5);
    EXPECT_TRUE(recording.records().empty());
  });
}

// Checking finds the difference before the operation starts, on every rank and in the same words.
template <class F>
void expect_refused(int ranks, const F& call, const std::string& message) {
  run_ranks(ranks, [&](Communicator& comm) {
    dist::Checking checking(comm);
    std::vector<float> data(64);
    const dist::Span span(data.data(), 12, Dtype::float32);
    expect_error<core::Error>([&] { call(checking, comm.rank() == 1, span); }, HasSubstr(message));
    checking.barrier();  // the group is as good as before
  });
}

TEST(Checking, Pitfall29_NamesTheFirstDifference) {
  expect_refused(
      3, [](Communicator& c, bool odd, dist::Span s) { odd ? c.all_gather(s) : c.reduce_scatter(s); },
      "rank 0 calls reduce_scatter of 12 float32, rank 1 calls all_gather of 12 float32");
  expect_refused(
      3, [](Communicator& c, bool odd, dist::Span s) { c.all_reduce(s.part(0, odd ? 3 : 4), Reduce::sum); },
      "rank 0 calls all_reduce(sum) of 4 float32, rank 1 calls all_reduce(sum) of 3 float32");
  expect_refused(
      2, [](Communicator& c, bool odd, dist::Span s) { c.all_reduce(s, odd ? Reduce::max : Reduce::sum); },
      "rank 1 calls all_reduce(max)");
  expect_refused(
      2, [](Communicator& c, bool odd, dist::Span s) { c.broadcast(s, odd ? 1 : 0); },
      "rank 1 calls broadcast of 12 float32 from rank 1");
  expect_refused(
      2,
      [](Communicator& c, bool odd, dist::Span s) {
        c.all_gather({s.data, s.count, odd ? Dtype::int32 : Dtype::float32});
      },
      "rank 1 calls all_gather of 12 int32");
  expect_refused(
      3,
      [](Communicator& c, bool odd, dist::Span s) {
        const dist::Transfer send{0, s.part(0, 4)};
        if (odd)
          c.exchange({&send, 1}, {});
        else
          c.exchange({}, {});
      },
      "rank 1 sends 1 messages to rank 0, which expects 0");
}

TEST(Faulty, FailsAtTheNamedCallOnly) {
  run_ranks(1, [](Communicator& comm) {
    dist::Faulty faulty(comm, 2, dist::Fault::error);
    faulty.barrier();
    faulty.barrier();
    expect_error<core::Error>([&] { faulty.barrier(); }, AllOf(HasSubstr("injected"), HasSubstr("operation 2: barrier")));
    faulty.barrier();
  });
}

TEST(Faulty, ADroppedOperationIsFoundByTheNext) {
  const auto body = [](Communicator& comm) {
    dist::Faulty faulty(comm, comm.rank() == 1 ? 0 : -1, dist::Fault::drop);
    std::vector<float> data(4);
    faulty.all_reduce(dist::Span(data.data(), 4, Dtype::float32), Reduce::sum);
    faulty.barrier();
  };
  expect_error<core::Error>([&] { run_ranks(2, body); }, HasSubstr("rank 1 calls barrier"));
}

}  // namespace
}  // namespace muonp::test
