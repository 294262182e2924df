// Runs the threads of one block: each a fiber of the calling host thread. A warp runs as far as it can before the next
// one does, as a device may do it: the widest gap that the block's barriers leave. In which order warps come, and the
// threads within each, is not defined by CUDA: from 0 up where the seed is 1 (but who reaches a barrier last goes on
// first), otherwise a permutation of the seed and the block, another one whenever all threads have stopped.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cuda_host_launch.h"
#include "fiber.h"
#include "tensor_cores.h"

namespace cuda_host {

enum class Collective { kBarrier, kShuffle, kBallot, kLoadMatrices, kMultiply };

size_t dynamic_shared_bytes();  // of the block that runs

class BlockRunner {
 public:
  static BlockRunner& of_this_thread();

  // False: reported, and the block was given up.
  bool run(const KernelCall& call, dim3 block);
  bool running() const { return call_ != nullptr; }

  // From within a thread of the block.
  void block_barrier(const Site& site);
  // Meets the lanes of `mask`; `bits` of lane `source` comes back, or the mask of those with bits != 0 for a
  // ballot. Of the tensor cores' collectives `bits` is the address of what the lane brings (tensor_cores.h).
  uint64_t meet(Collective kind, unsigned mask, uint64_t bits, int source, const Site& site);
  int lane() const { return static_cast<int>(current_ % 32); }
  // Of the running thread; one that returns while some are on their way is reported.
  std::vector<PendingCopy>& copies() { return threads_[current_].copies; }

 private:
  enum class State { kReady, kAtBlockBarrier, kAtCollective, kReturned };
  struct Thread {
    State state = State::kReady;
    uint3 index{};
    Site site;
    Collective kind{};
    unsigned mask = 0;
    uint64_t bits = 0;
    int source = 0;
    uint64_t result = 0;
    std::vector<PendingCopy> copies;
  };
  struct Warp {
    unsigned waiting = 0;  // how many lanes are at a collective
    char ordered[2] = {};  // tokens of alternate barriers, so that a late lane is not ordered after the next one
    unsigned barriers = 0;
  };

  static void thread_main(void* self);
  void prepare(dim3 block);
  void shuffle_order();
  bool run_warp(size_t begin, size_t end);
  void resume(size_t thread);
  void suspend(State state);
  bool same_site(const Site& a, const Site& b) const;
  bool complete(size_t warp, const Thread& arrived) const;
  void finish_collective(size_t warp, unsigned mask);
  // Reports make_text(), and leaves the block: does not return into the thread.
  template <class MakeText>
  void fail(MakeText make_text);
  void report_stuck();
  std::string where(size_t thread) const;

  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Thread> threads_;
  std::vector<size_t> warp_order_, lane_order_;  // warps, and the threads of each warp from 32·warp on
  std::minstd_rand random_;
  std::vector<Warp> warps_;
  const KernelCall* call_ = nullptr;
  size_t count_ = 0, current_ = 0, returned_ = 0, at_barrier_ = 0;
  Site barrier_site_;
  unsigned barriers_ = 0;
  bool failed_ = false;
  char ordered_[2] = {};
  char started_ = 0, ended_ = 0;
};

}  // namespace cuda_host
