// NCCL programs that are right: they give right results in both modes, blocking and not, without a report.
#include <tuple>

#include "nccl_fixture.h"

namespace {

class NcclPrograms : public NcclHost, public testing::WithParamInterface<std::tuple<cuda_host::Mode, bool, int>> {
 protected:
  void SetUp() override { start_nccl(std::get<0>(GetParam()), 1); }
  static void run(const std::function<void(NcclRank&)>& body) {
    NcclHost::run(std::get<2>(GetParam()), std::get<1>(GetParam()), body);
  }
};
INSTANTIATE_TEST_SUITE_P(, NcclPrograms,
                         testing::Combine(testing::Values(cuda_host::Mode::kInline, cuda_host::Mode::kAsync),
                                          testing::Bool(), testing::Values(1, 2, 3, 4)),
                         [](const auto& instance) {
                           const bool is_inline = std::get<0>(instance.param) == cuda_host::Mode::kInline;
                           return std::string(is_inline ? "Inline" : "Async") +
                                  (std::get<1>(instance.param) ? "Blocking" : "NonBlocking") +
                                  std::to_string(std::get<2>(instance.param));
                         });

int value(int rank, int i) { return (rank * 31 + i * 7) % 17 - 8; }

int expected(ncclRedOp_t op, int ranks, int i) {
  int result = value(0, i);
  for (int r = 1; r < ranks; ++r) {
    const int v = value(r, i);
    result = op == ncclSum ? result + v : op == ncclMax ? std::max(result, v) : std::min(result, v);
  }
  return result;
}

TEST_P(NcclPrograms, AllReduceOutOfPlaceAndInPlace) {
  run([](NcclRank& rank) {
    constexpr int kCount = 1001;
    std::vector<float> mine(kCount);
    for (int i = 0; i < kCount; ++i) mine[i] = static_cast<float>(value(rank.rank, i));
    for (const ncclRedOp_t op : {ncclSum, ncclMax, ncclMin}) {
      float *from = device(mine), *to = device<float>(kCount);
      EXPECT_EQ(rank.outcome(ncclAllReduce(from, to, kCount, ncclFloat32, op, rank.comm, rank.stream)), ncclSuccess);
      EXPECT_EQ(rank.outcome(ncclAllReduce(from, from, kCount, ncclFloat32, op, rank.comm, rank.stream)), ncclSuccess);
      for (const float* result : {from, to}) {
        const auto got = host(result, kCount);
        for (int i = 0; i < kCount; ++i) ASSERT_EQ(got[i], static_cast<float>(expected(op, rank.ranks, i))) << i;
      }
      cudaFree(from);
      cudaFree(to);
    }
  });
}

TEST_P(NcclPrograms, IntegersWrapAndNarrowSumsRoundAfterEachAddition) {
  run([](NcclRank& rank) {
    const std::vector<int> mine = {value(rank.rank, 3), 0x7fffffff};
    int* whole = device(mine);
    EXPECT_EQ(rank.outcome(ncclAllReduce(whole, whole, 2, ncclInt32, ncclSum, rank.comm, rank.stream)), ncclSuccess);
    const auto sums = host(whole, 2);
    EXPECT_EQ(sums[0], expected(ncclSum, rank.ranks, 3));
    EXPECT_EQ(static_cast<unsigned>(sums[1]), 0x7fffffffU * static_cast<unsigned>(rank.ranks));
    // 256 + 1 is 256 in bfloat16, and 2048 + 1 is 2048 in float16.
    uint16_t* narrow = device(std::vector<uint16_t>{static_cast<uint16_t>(rank.rank == 0 ? 0x4380 : 0x3f80)});
    EXPECT_EQ(rank.outcome(ncclAllReduce(narrow, narrow, 1, ncclBfloat16, ncclSum, rank.comm, rank.stream)), ncclSuccess);
    EXPECT_EQ(host(narrow, 1)[0], 0x4380);
    uint16_t* half = device(std::vector<uint16_t>{static_cast<uint16_t>(rank.rank == 0 ? 0x6800 : 0x3c00)});
    EXPECT_EQ(rank.outcome(ncclAllReduce(half, half, 1, ncclFloat16, ncclSum, rank.comm, rank.stream)), ncclSuccess);
    EXPECT_EQ(host(half, 1)[0], 0x6800);
    cudaFree(whole);
    cudaFree(narrow);
    cudaFree(half);
  });
}

TEST_P(NcclPrograms, ReduceScatterAndAllGather) {
  run([](NcclRank& rank) {
    constexpr int kSlice = 333;
    const int all = kSlice * rank.ranks;
    std::vector<float> mine(all);
    for (int i = 0; i < all; ++i) mine[i] = static_cast<float>(value(rank.rank, i));
    float *data = device(mine), *slice = device<float>(kSlice), *gathered = device<float>(all);
    float* own = data + kSlice * rank.rank;
    EXPECT_EQ(rank.outcome(ncclReduceScatter(data, slice, kSlice, ncclFloat32, ncclSum, rank.comm, rank.stream)),
              ncclSuccess);
    EXPECT_EQ(rank.outcome(ncclReduceScatter(data, own, kSlice, ncclFloat32, ncclSum, rank.comm, rank.stream)), ncclSuccess);
    EXPECT_EQ(host(slice, kSlice), host(own, kSlice));
    EXPECT_EQ(rank.outcome(ncclAllGather(slice, gathered, kSlice, ncclFloat32, rank.comm, rank.stream)), ncclSuccess);
    EXPECT_EQ(rank.outcome(ncclAllGather(own, data, kSlice, ncclFloat32, rank.comm, rank.stream)), ncclSuccess);
    EXPECT_EQ(host(data, all), host(gathered, all));
    const auto got = host(data, all);
    for (int i = 0; i < all; ++i) ASSERT_EQ(got[i], static_cast<float>(expected(ncclSum, rank.ranks, i))) << i;
    for (float* p : {data, slice, gathered}) cudaFree(p);
  });
}

TEST_P(NcclPrograms, BroadcastFromEveryRoot) {
  run([](NcclRank& rank) {
    for (int root = 0; root < rank.ranks; ++root) {
      int* data = device(std::vector<int>{rank.rank, rank.rank + 10});
      EXPECT_EQ(rank.outcome(ncclBroadcast(data, data, 2, ncclInt32, root, rank.comm, rank.stream)), ncclSuccess);
      EXPECT_EQ(host(data, 2), (std::vector<int>{root, root + 10}));
      cudaFree(data);
    }
  });
}

// Several messages of each pair, all at once, and a collective in the same group.
TEST_P(NcclPrograms, AGroupOfSendsAndReceivesCannotDeadlock) {
  run([](NcclRank& rank) {
    constexpr int kMessages = 3;
    std::vector<int> mine(kMessages * rank.ranks);
    for (int i = 0; i < kMessages * rank.ranks; ++i) mine[i] = rank.rank * 1000 + i;
    int *out = device(mine), *in = device<int>(mine.size()), *sum = device(std::vector<int>{1});
    ASSERT_EQ(ncclGroupStart(), ncclSuccess);
    ASSERT_EQ(ncclGroupStart(), ncclSuccess);
    for (int peer = rank.ranks - 1; peer >= 0; --peer) {
      for (int k = 0; k < kMessages; ++k) {
        ASSERT_EQ(ncclSend(out + peer * kMessages + k, 1, ncclInt32, peer, rank.comm, rank.stream), ncclSuccess);
      }
    }
    ASSERT_EQ(ncclGroupEnd(), ncclSuccess);
    for (int peer = 0; peer < rank.ranks; ++peer) {
      for (int k = 0; k < kMessages; ++k) {
        ASSERT_EQ(ncclRecv(in + peer * kMessages + k, 1, ncclInt32, peer, rank.comm, rank.stream), ncclSuccess);
      }
    }
    ASSERT_EQ(ncclAllReduce(sum, sum, 1, ncclInt32, ncclSum, rank.comm, rank.stream), ncclSuccess);
    EXPECT_EQ(rank.outcome(ncclGroupEnd()), ncclSuccess);
    const auto got = host(in, mine.size());
    for (int peer = 0; peer < rank.ranks; ++peer) {
      for (int k = 0; k < kMessages; ++k) EXPECT_EQ(got[peer * kMessages + k], peer * 1000 + rank.rank * kMessages + k);
    }
    EXPECT_EQ(host(sum, 1)[0], rank.ranks);
    for (int* p : {out, in, sum}) cudaFree(p);
  });
}

TEST_P(NcclPrograms, SendsOutsideAGroupMatchInOrder) {
  const auto [mode, blocking, ranks] = GetParam();
  NcclHost::run(std::max(ranks, 2), blocking, [](NcclRank& rank) {
    int* data = device(std::vector<int>{rank.rank + 5, rank.rank + 6});
    for (int k = 0; k < 2 && rank.rank < 2; ++k) {
      const ncclResult_t result = rank.rank == 0 ? ncclSend(data + k, 1, ncclInt32, 1, rank.comm, rank.stream)
                                                 : ncclRecv(data + k, 1, ncclInt32, 0, rank.comm, rank.stream);
      EXPECT_EQ(rank.outcome(result), ncclSuccess);
    }
    if (rank.rank == 1) {
      EXPECT_EQ(host(data, 2), (std::vector<int>{5, 6}));
    }
    cudaFree(data);
  });
}

TEST_P(NcclPrograms, LongMessages) {
  run([](NcclRank& rank) {
    constexpr int kCount = 1'000'003;
    float* data = device(std::vector<float>(kCount, static_cast<float>(rank.rank + 1)));
    EXPECT_EQ(rank.outcome(ncclAllReduce(data, data, kCount, ncclFloat32, ncclSum, rank.comm, rank.stream)), ncclSuccess);
    const float sum = static_cast<float>(rank.ranks * (rank.ranks + 1) / 2);
    EXPECT_EQ(host(data, kCount), std::vector<float>(kCount, sum));
    cudaFree(data);
  });
}

TEST_P(NcclPrograms, TheCommunicatorKnowsItsRank) {
  run([](NcclRank& rank) {
    int version = 0, count = 0, user_rank = -1, device = -1;
    EXPECT_EQ(ncclGetVersion(&version), ncclSuccess);
    EXPECT_EQ(version, 22809);
    EXPECT_EQ(ncclCommCount(rank.comm, &count), ncclSuccess);
    EXPECT_EQ(ncclCommUserRank(rank.comm, &user_rank), ncclSuccess);
    EXPECT_EQ(ncclCommCuDevice(rank.comm, &device), ncclSuccess);
    EXPECT_EQ(count, rank.ranks);
    EXPECT_EQ(user_rank, rank.rank);
    EXPECT_EQ(device, rank.rank);
  });
}

// Operations stand in the stream's order, so what is copied before and after one needs no other wait.
TEST_F(NcclHost, OperationsAreInStreamOrder) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    start_nccl(cuda_host::Mode::kAsync, seed);
    run(3, seed % 2 == 0, [](NcclRank& rank) {
      int *data = device<int>(1), *copy = device<int>(1), *ones = device(std::vector<int>{1});
      for (int repeat = 0; repeat < 5; ++repeat) {
        cudaMemcpyAsync(data, ones, sizeof(int), cudaMemcpyDeviceToDevice, rank.stream);
        ASSERT_EQ(rank.settle(ncclAllReduce(data, data, 1, ncclInt32, ncclSum, rank.comm, rank.stream)), ncclSuccess);
        cudaMemcpyAsync(copy, data, sizeof(int), cudaMemcpyDeviceToDevice, rank.stream);
        cudaMemsetAsync(data, 0, sizeof(int), rank.stream);
      }
      cudaStreamSynchronize(rank.stream);
      EXPECT_EQ(host(copy, 1)[0], 3);
      for (int* p : {data, copy, ones}) cudaFree(p);
    });
  }
}

TEST_F(NcclHost, Pitfall35_ConstructAndDestroyInALoop) {
  for (int i = 0; i < 40; ++i) {
    run(1 + i % 4, i % 2 == 0, [](NcclRank&) {});
  }
  EXPECT_EQ(cuda_host::live_communicators(), 0U);
}

}  // namespace
