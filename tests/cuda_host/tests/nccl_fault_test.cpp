// Planted misuse of NCCL: each must be reported or refused, and none may hang.
#include <atomic>
#include <chrono>

#include "nccl_fixture.h"

namespace {

using namespace std::chrono_literals;
using cuda_host::Mode;
using testing::HasSubstr;

class NcclFaults : public NcclHost {
 protected:
  // On `ranks` ranks, in both modes, blocking and not: the call fails on every rank, and one report has all the words.
  void expect_fault(int ranks, const std::function<ncclResult_t(NcclRank&, float*)>& call,
                    const std::vector<std::string>& words, ncclResult_t expected = ncclInvalidUsage) {
    for (const Mode mode : {Mode::kInline, Mode::kAsync}) {
      for (const bool blocking : {true, false}) {
        start_nccl(mode, 1);
        run_to_abort(ranks, blocking, [&](NcclRank& rank) {
          float* data = device(std::vector<float>(64, 1.0F));
          EXPECT_EQ(rank.outcome(call(rank, data)), expected);
          if (expected == ncclInvalidUsage) {
            EXPECT_THAT(ncclGetLastError(rank.comm), HasSubstr(words[0]));
          }
          cudaFree(data);
        });
        expect_report(words);
      }
    }
  }
  // The same on one rank, refused at the call.
  void expect_refused(const std::function<ncclResult_t(NcclRank&, float*)>& call, const std::vector<std::string>& words) {
    expect_fault(1, call, words, ncclInvalidArgument);
  }
};

ncclResult_t all_reduce(NcclRank& rank, float* data, size_t count, ncclDataType_t type = ncclFloat32,
                        ncclRedOp_t op = ncclSum) {
  return ncclAllReduce(data, data, count, type, op, rank.comm, rank.stream);
}

TEST_F(NcclFaults, Pitfall29_DifferentCountsAreNamed) {
  expect_fault(3, [](NcclRank& r, float* data) { return all_reduce(r, data, r.rank == 2 ? 11 : 12); },
               {"rank 0 calls ncclAllReduce of 12 ncclFloat32, ncclSum", "rank 2 calls ncclAllReduce of 11"});
}

TEST_F(NcclFaults, Pitfall29_DifferentTypesReductionsAndCallsAreNamed) {
  expect_fault(2, [](NcclRank& r, float* data) { return all_reduce(r, data, 8, r.rank == 1 ? ncclInt32 : ncclFloat32); },
               {"rank 0 calls ncclAllReduce of 8 ncclFloat32", "rank 1 calls ncclAllReduce of 8 ncclInt32"});
  expect_fault(2,
               [](NcclRank& r, float* data) { return all_reduce(r, data, 8, ncclFloat32, r.rank == 1 ? ncclMax : ncclSum); },
               {"ncclSum", "rank 1 calls ncclAllReduce of 8 ncclFloat32, ncclMax"});
  expect_fault(2,
               [](NcclRank& r, float* data) {
                 if (r.rank == 0) return ncclAllGather(data, data, 8, ncclFloat32, r.comm, r.stream);
                 return ncclReduceScatter(data, data + 8, 8, ncclFloat32, ncclSum, r.comm, r.stream);
               },
               {"rank 0 calls ncclAllGather of 8", "rank 1 calls ncclReduceScatter of 8"});
  expect_fault(2,
               [](NcclRank& r, float* data) { return ncclBroadcast(data, data, 8, ncclFloat32, r.rank, r.comm, r.stream); },
               {"root 0", "root 1"});
}

TEST_F(NcclFaults, Pitfall29_DifferentOrdersAreNamed) {
  expect_fault(2,
               [](NcclRank& r, float* data) {
                 if (r.rank == 0) r.settle(all_reduce(r, data, 4));
                 return ncclBroadcast(data, data, 4, ncclFloat32, 0, r.comm, r.stream);
               },
               {"rank 0 calls ncclAllReduce of 4", "(operation 0)", "rank 1 calls ncclBroadcast of 4"});
}

TEST_F(NcclFaults, MessagesOfDifferentLengthAreNamed) {
  expect_fault(2,
               [](NcclRank& r, float* data) {
                 return r.rank == 0 ? ncclSend(data, 5, ncclFloat32, 1, r.comm, r.stream)
                                    : ncclRecv(data, 6, ncclFloat32, 0, r.comm, r.stream);
               },
               {"rank 0 calls ncclSend of 5 ncclFloat32 to rank 1", "rank 1 calls ncclRecv of 6 ncclFloat32 from rank 0"});
}

TEST_F(NcclFaults, SendsOutsideAGroupThatWaitForEachOtherAreADeadlock) {
  expect_fault(
      2,
      [](NcclRank& r, float* data) {
        r.settle(ncclSend(data, 4, ncclFloat32, 1 - r.rank, r.comm, r.stream));
        return ncclRecv(data + 8, 4, ncclFloat32, 1 - r.rank, r.comm, r.stream);
      },
      {"every rank waits for another", "rank 0 is in ncclSend of 4 ncclFloat32 to rank 1", "rank 1 is in ncclSend"});
}

TEST_F(NcclFaults, ASendWithoutItsReceiveIsReportedAtTheTimeOut) {
  time_out_after("0.5");
  std::atomic<bool> over = false;
  run_to_abort(3, false, [&](NcclRank& rank) {
    if (rank.rank == 0) {
      float* data = device<float>(4);
      EXPECT_EQ(rank.outcome(ncclSend(data, 4, ncclFloat32, 2, rank.comm, rank.stream)), ncclInvalidUsage);
      cudaFree(data);
      over = true;
    }
    while (!over) std::this_thread::sleep_for(1ms);
  });
  expect_report({"no progress for", "rank 0 is in ncclSend of 4 ncclFloat32 to rank 2", "rank 2 calls nothing"});
}

TEST_F(NcclFaults, AGroupThatIsNotEndedIsReported) {
  time_out_after("0.5");
  start_nccl(Mode::kAsync, 1);
  std::atomic<bool> over = false;
  on_ranks(2, [&](NcclRank& rank, const ncclUniqueId& id) {
    ASSERT_EQ(init(rank, id, true), ncclSuccess);
    float* data = device<float>(4);
    if (rank.rank == 1) {
      EXPECT_EQ(ncclGroupStart(), ncclSuccess);
    }
    const ncclResult_t result = all_reduce(rank, data, 4);
    EXPECT_EQ(rank.rank == 1 ? result : rank.outcome(result), rank.rank == 1 ? ncclSuccess : ncclInvalidUsage);
    if (rank.rank == 0) over = true;
    while (!over) std::this_thread::sleep_for(1ms);
    if (rank.rank == 0) {
      EXPECT_EQ(ncclCommAbort(rank.comm), ncclSuccess);
    }
    cudaFree(data);
  });
  const auto reports = cuda_host::take_reports();
  ASSERT_EQ(reports.size(), 2U);
  EXPECT_THAT(reports[0], testing::AllOf(HasSubstr("rank 0 is in ncclAllReduce"), HasSubstr("rank 1 calls nothing")));
  EXPECT_THAT(reports[1], HasSubstr("ncclGroupStart without ncclGroupEnd"));
  cuda_host::configure({});
  expect_report({"leak: 1 NCCL communicator"});
}

TEST_F(NcclFaults, ARankThatVanishesIsARemoteError) {
  for (const Mode mode : {Mode::kInline, Mode::kAsync}) {
    start_nccl(mode, 1);
    run_to_abort(3, false, [&](NcclRank& rank) {
      if (rank.rank == 1) return;
      float* data = device(std::vector<float>(4, 1.0F));
      EXPECT_EQ(rank.outcome(all_reduce(rank, data, 4)), ncclRemoteError);
      EXPECT_THAT(ncclGetLastError(rank.comm), HasSubstr("rank 1 has left"));
      EXPECT_NE(host(data, 1)[0], host(data, 1)[0]);  // the result is undefined: NaN
      EXPECT_EQ(rank.outcome(all_reduce(rank, data, 4)), ncclRemoteError);
      cudaFree(data);
    });
  }
}

TEST_F(NcclFaults, AbortUnblocksWhatIsPending) {
  start_nccl(Mode::kAsync, 1);
  std::atomic<bool> over = false;
  run_to_abort(2, true, [&](NcclRank& rank) {
    if (rank.rank == 0) {
      float* data = device<float>(4);
      EXPECT_EQ(all_reduce(rank, data, 4), ncclSuccess);
      EXPECT_EQ(cudaStreamQuery(rank.stream), cudaErrorNotReady);
      std::thread([&] { EXPECT_EQ(ncclCommAbort(rank.comm), ncclSuccess); }).join();
      EXPECT_EQ(cudaStreamSynchronize(rank.stream), cudaSuccess);
      cudaFree(data);
      over = true;
      ncclUniqueId id;  // so that the frame has something to abort
      ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
      ASSERT_EQ(ncclCommInitRank(&rank.comm, 1, id, 0), ncclSuccess);
    }
    while (!over) std::this_thread::sleep_for(1ms);
  });
}

TEST_F(NcclFaults, TwoRanksOnOneDeviceAreRefused) {
  for (const bool blocking : {true, false}) {
    on_ranks(3, [&](NcclRank& rank, const ncclUniqueId& id) {
      if (rank.rank == 2) {
        EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
      }
      EXPECT_EQ(init(rank, id, blocking), ncclInvalidUsage);
      EXPECT_THAT(ncclGetLastError(nullptr), HasSubstr("Duplicate GPU detected : rank 0 and rank 2"));
      if (!blocking) {
        EXPECT_EQ(ncclCommAbort(rank.comm), ncclSuccess);
      }
    });
  }
  EXPECT_EQ(cuda_host::live_communicators(), 0U);
}

TEST_F(NcclFaults, ARankThatDoesNotComeIsReported) {
  time_out_after("0.5");
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  NcclRank rank{1, 3, nullptr, nullptr};
  EXPECT_EQ(init(rank, id, true), ncclInvalidUsage);
  expect_report({"rank 0, rank 2 of 3 did not call ncclCommInitRank"});
}

TEST_F(NcclFaults, AnInitialisationCanBeAborted) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t comm = nullptr;
  EXPECT_EQ(ncclCommInitRankConfig(&comm, 2, id, 0, &config), ncclInProgress);
  EXPECT_EQ(ncclCommAbort(comm), ncclSuccess);
}

TEST_F(NcclFaults, InitialisationChecksItsArguments) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  ncclComm_t comm = nullptr;
  ncclConfig_t config{};
  EXPECT_EQ(ncclCommInitRankConfig(&comm, 1, id, 0, &config), ncclInvalidArgument);
  EXPECT_EQ(ncclCommInitRank(&comm, 1, id, 1), ncclInvalidArgument);
  EXPECT_EQ(ncclCommInitRank(&comm, 0, id, 0), ncclInvalidArgument);
  EXPECT_EQ(ncclCommInitRank(nullptr, 1, id, 0), ncclInvalidArgument);
  cuda_host::fail_next("ncclCommInitRank", cudaErrorUnknown);
  EXPECT_EQ(ncclCommInitRank(&comm, 1, id, 0), ncclUnhandledCudaError);
  EXPECT_EQ(ncclCommInitRank(&comm, 1, ncclUniqueId{}, 0), ncclSystemError);
}

TEST_F(NcclFaults, MemoryMustBeWholeOnTheDevice) {
  expect_refused([](NcclRank& r, float* data) { return all_reduce(r, data, 65); }, {"sendbuff", "reaching past its end"});
  expect_refused(
      [](NcclRank& r, float*) {
        float on_host[4] = {};
        return all_reduce(r, on_host, 4);
      },
      {"is not memory of device 0"});
  expect_refused(
      [](NcclRank& r, float* data) { return all_reduce(r, reinterpret_cast<float*>(reinterpret_cast<char*>(data) + 2), 4); },
      {"not aligned"});
  expect_refused(
      [](NcclRank& r, float* data) {
        float* freed = device<float>(4);
        cudaFree(freed);
        return ncclAllReduce(data, freed, 4, ncclFloat32, ncclSum, r.comm, r.stream);
      },
      {"recvbuff", "freed"});
}

TEST_F(NcclFaults, BuffersOverlapInPlaceOnly) {
  expect_refused(
      [](NcclRank& r, float* data) { return ncclAllReduce(data, data + 1, 8, ncclFloat32, ncclSum, r.comm, r.stream); },
      {"overlap otherwise than in place"});
  const auto second_rank = [](NcclRank& r, float* data) {  // right at rank 0 only
    return ncclReduceScatter(data, data, 8, ncclFloat32, ncclSum, r.comm, r.stream);
  };
  run_to_abort(2, true, [&](NcclRank& rank) {
    float* data = device<float>(16);
    if (rank.rank == 1) {
      EXPECT_EQ(second_rank(rank, data), ncclInvalidArgument);
    }
    cudaFree(data);
  });
  expect_report({"ncclReduceScatter", "overlap otherwise than in place"});
  expect_refused(
      [](NcclRank& r, float* data) {
        ncclGroupStart();
        ncclSend(data, 8, ncclFloat32, 0, r.comm, r.stream);
        ncclRecv(data + 4, 8, ncclFloat32, 0, r.comm, r.stream);
        return ncclGroupEnd();
      },
      {"writes what ncclSend of 8"});
}

TEST_F(NcclFaults, ArgumentsAreChecked) {
  expect_refused([](NcclRank& r, float* data) { return all_reduce(r, data, 4, ncclNumTypes); }, {"type 12"});
  expect_refused([](NcclRank& r, float* data) { return all_reduce(r, data, 4, ncclFloat32, ncclProd); }, {"ncclProd"});
  expect_refused([](NcclRank& r, float* data) { return ncclSend(data, 4, ncclFloat32, 1, r.comm, r.stream); },
                 {"rank 1 of 1"});
  expect_refused(
      [](NcclRank& r, float* data) { return ncclAllReduce(data, data, 4, ncclFloat32, ncclSum, r.comm, nullptr); },
      {"legacy default stream"});
}

TEST_F(NcclFaults, DeviceAndStreamMustBeTheCommunicators) {
  expect_refused(
      [](NcclRank& r, float* data) {
        cudaSetDevice(1);
        const ncclResult_t result = all_reduce(r, data, 4);
        cudaSetDevice(0);
        return result;
      },
      {"of device 0, device 1 is current"});
  expect_refused(
      [](NcclRank& r, float* data) {
        cudaSetDevice(1);
        cudaStream_t other = stream();
        cudaSetDevice(0);
        const ncclResult_t result = ncclAllReduce(data, data, 4, ncclFloat32, ncclSum, r.comm, other);
        cudaStreamDestroy(other);
        return result;
      },
      {"the stream of device 1"});
}

TEST_F(NcclFaults, GroupsMustMatch) {
  EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);
  expect_report({"no ncclGroupStart"});
  run_to_abort(1, true, [](NcclRank& rank) {
    ncclGroupStart();
    EXPECT_EQ(ncclCommFinalize(rank.comm), ncclInvalidArgument);
    EXPECT_EQ(ncclGroupEnd(), ncclSuccess);
  });
  expect_report({"ncclCommFinalize: within a group"});
}

TEST_F(NcclFaults, UseAfterTheEndIsReported) {
  on_ranks(1, [&](NcclRank& rank, const ncclUniqueId& id) {
    ASSERT_EQ(init(rank, id, true), ncclSuccess);
    float* data = device<float>(4);
    EXPECT_EQ(ncclCommFinalize(rank.comm), ncclSuccess);
    EXPECT_EQ(all_reduce(rank, data, 4), ncclInvalidArgument);
    expect_report({"ncclAllReduce", "finalized"});
    EXPECT_EQ(ncclCommDestroy(rank.comm), ncclSuccess);
    EXPECT_EQ(all_reduce(rank, data, 4), ncclInvalidArgument);
    expect_report({"ncclAllReduce", "was destroyed"});
    EXPECT_EQ(ncclCommDestroy(rank.comm), ncclInvalidArgument);
    expect_report({"ncclCommDestroy", "was destroyed"});
    cudaFree(data);
  });
  on_ranks(1, [&](NcclRank& rank, const ncclUniqueId& id) {
    ASSERT_EQ(init(rank, id, false), ncclSuccess);
    EXPECT_EQ(ncclCommAbort(rank.comm), ncclSuccess);
    ncclResult_t error;
    EXPECT_EQ(ncclCommGetAsyncError(rank.comm, &error), ncclInvalidArgument);
    expect_report({"ncclCommGetAsyncError", "was aborted"});
  });
}

TEST_F(NcclFaults, ACallWhileAnotherIsInProgressIsReported) {
  start_nccl(Mode::kAsync, 1);
  std::atomic<int> accepted{0};  // calls of rank 0 that rank 1 has to match
  std::atomic<bool> caught{false};
  run_to_abort(2, false, [&](NcclRank& rank) {
    float* data = device<float>(4);
    // A launch takes a random time, at least a thread's start. On a busy machine it may have ended when the second call
    // comes, which then is a right one: try again.
    for (int attempt = 0; rank.rank == 0 && attempt < 1000 && !caught; ++attempt) {
      EXPECT_EQ(all_reduce(rank, data, 4), ncclInProgress);
      ++accepted;
      const ncclResult_t second = all_reduce(rank, data, 4);
      if (second != ncclInvalidArgument) {
        ++accepted;
        EXPECT_EQ(rank.settle(second), ncclSuccess);
        continue;
      }
      EXPECT_EQ(rank.settle(ncclInProgress), ncclSuccess);
      caught = true;
    }
    for (int made = 0; rank.rank == 1 && (!caught || made < accepted);)
      if (made < accepted) {
        EXPECT_EQ(rank.outcome(all_reduce(rank, data, 4)), ncclSuccess);
        ++made;
      } else {
        std::this_thread::yield();
      }
    cudaStreamSynchronize(rank.stream);
    cudaFree(data);
  });
  expect_report({"ncclAllReduce: a call is in progress"});
}

TEST_F(NcclFaults, DestroyWithOperationsPendingIsReported) {
  start_nccl(Mode::kAsync, 1);
  on_ranks(2, [&](NcclRank& rank, const ncclUniqueId& id) {
    ASSERT_EQ(init(rank, id, true), ncclSuccess);
    float* data = device(std::vector<float>(4, 1.0F));
    if (rank.rank == 1) std::this_thread::sleep_for(50ms);
    EXPECT_EQ(all_reduce(rank, data, 4), ncclSuccess);
    if (rank.rank == 1) {
      EXPECT_EQ(rank.settle(ncclCommFinalize(rank.comm)), ncclSuccess);
    }
    EXPECT_EQ(ncclCommDestroy(rank.comm), ncclSuccess);
    cudaFree(data);
  });
  expect_report({"ncclCommDestroy: operations are pending"});
}

TEST_F(NcclFaults, LeakedCommunicatorsAreListed) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  ncclComm_t comm = nullptr;
  ASSERT_EQ(ncclCommInitRank(&comm, 1, id, 0), ncclSuccess);
  cuda_host::configure({});
  expect_report({"leak: 1 NCCL communicator"});
}

TEST_F(NcclFaults, AsyncErrorsCanBeProvoked) {
  run_to_abort(1, false, [](NcclRank& rank) {
    cuda_host::provoke_async_error(0, ncclSystemError, "the link is down");
    ncclResult_t error = ncclSuccess;
    EXPECT_EQ(ncclCommGetAsyncError(rank.comm, &error), ncclSuccess);
    EXPECT_EQ(error, ncclSystemError);
    EXPECT_STREQ(ncclGetLastError(rank.comm), "the link is down");
    float* data = device<float>(4);
    EXPECT_EQ(all_reduce(rank, data, 4), ncclSystemError);
    cudaFree(data);
  });
}

// Only within an operation may device memory be touched; also while one waits for other ranks.
TEST_F(NcclFaults, HostCodeCannotReadDeviceMemoryAfterAnOperation) {
  run(2, true, [](NcclRank& rank) {
    float* data = device(std::vector<float>(4, 1.0F));
    EXPECT_EQ(all_reduce(rank, data, 4), ncclSuccess);
    cudaFree(data);
  });
  float* data = device(std::vector<float>(4, 1.0F));
  EXPECT_DEATH(static_cast<void>(*static_cast<volatile float*>(data)), "device memory");
  cudaFree(data);
}

}  // namespace
