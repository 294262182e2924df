#include "block.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>
#include <string>

#include "report.h"
#include "runtime.h"
#include "sanitizer.h"

constinit thread_local uint3 threadIdx{0, 0, 0};
constinit thread_local uint3 blockIdx{0, 0, 0};
constinit thread_local dim3 blockDim{1, 1, 1};
constinit thread_local dim3 gridDim{1, 1, 1};

namespace cuda_host {
namespace {

const char* name_of(Collective kind) {
  switch (kind) {
    case Collective::kBarrier:
      return "__syncwarp";
    case Collective::kShuffle:
      return "shuffle";
    case Collective::kBallot:
      return "ballot";
    case Collective::kLoadMatrices:
      return "ldmatrix";
    case Collective::kMultiply:
      return "mma";
  }
  return "";
}

std::string text_of(const Site& site) {
  return std::string(site.file_name()) + ":" + std::to_string(site.line()) + " in " + site.function_name();
}

std::string text_of_mask(unsigned mask) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%08x", mask);
  return text;
}

}  // namespace

BlockRunner& BlockRunner::of_this_thread() {
  thread_local BlockRunner runner;
  return runner;
}

void BlockRunner::prepare(dim3 block) {
  IgnoredBySanitizer ignored;
  count_ = size_t{block.x} * block.y * block.z;
  while (fibers_.size() < count_) fibers_.push_back(std::make_unique<Fiber>());
  threads_.assign(count_, Thread{});
  warps_.assign((count_ + 31) / 32, Warp{});
  warp_order_.resize(warps_.size());
  lane_order_.resize(count_);
  std::iota(warp_order_.begin(), warp_order_.end(), size_t{0});
  std::iota(lane_order_.begin(), lane_order_.end(), size_t{0});
  for (size_t i = 0; i < count_; ++i) {
    threads_[i].index = {static_cast<unsigned>(i % block.x), static_cast<unsigned>(i / block.x % block.y),
                         static_cast<unsigned>(i / block.x / block.y)};
    fibers_[i]->start(&BlockRunner::thread_main, this);
  }
  returned_ = at_barrier_ = barriers_ = 0;
  failed_ = false;
}

void BlockRunner::shuffle_order() {
  IgnoredBySanitizer ignored;
  std::ranges::shuffle(warp_order_, random_);
  for (size_t begin = 0; begin < count_; begin += 32)
    std::shuffle(lane_order_.begin() + static_cast<ptrdiff_t>(begin),
                 lane_order_.begin() + static_cast<ptrdiff_t>(std::min(begin + 32, count_)), random_);
}

// Each thread once, until it waits; false: none could run.
bool BlockRunner::run_warp(size_t begin, size_t end) {
  bool progress = false;
  for (size_t i = begin; i < end && !failed_; ++i) {
    if (threads_[lane_order_[i]].state != State::kReady) continue;
    progress = true;
    resume(lane_order_[i]);
  }
  return progress;
}

bool BlockRunner::run(const KernelCall& call, dim3 block) {
  prepare(block);
  call_ = &call;
  happens_before(&started_);
  const bool permutes = settings().seed != 1;
  const uint64_t block_number = (uint64_t{blockIdx.z} * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  random_.seed(static_cast<unsigned>((settings().seed + block_number) * 0x9e3779b97f4a7c15ULL >> 32));
  while (returned_ < count_ && !failed_) {
    if (permutes) shuffle_order();
    bool progress = false;
    for (size_t i = 0; i < warp_order_.size() && !failed_; ++i) {
      const size_t begin = 32 * warp_order_[i];
      while (!failed_ && run_warp(begin, std::min(begin + 32, count_))) progress = true;
    }
    if (!progress && !failed_) report_stuck();
  }
  happens_after(&ended_);
  call_ = nullptr;
  return !failed_;
}

void BlockRunner::thread_main(void* self) {
  auto* runner = static_cast<BlockRunner*>(self);
  happens_after(&runner->started_);
  (*runner->call_)();
  if (!runner->copies().empty()) report("a thread returned with copies to shared memory on their way");
  happens_before(&runner->ended_);
  runner->threads_[runner->current_].state = State::kReturned;
  ++runner->returned_;
}

void BlockRunner::resume(size_t thread) {
  current_ = thread;
  threadIdx = threads_[thread].index;
  fibers_[thread]->resume();
}

void BlockRunner::suspend(State state) {
  threads_[current_].state = state;
  happens_before(&ended_);  // should the block be given up, the thread ends here
  fibers_[current_]->suspend();
}

template <class MakeText>
void BlockRunner::fail(MakeText make_text) {
  report(make_text());  // no text may live on this stack any more: it is not unwound
  failed_ = true;
  suspend(threads_[current_].state);  // never resumed
}

bool BlockRunner::same_site(const Site& a, const Site& b) const {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

void BlockRunner::block_barrier(const Site& site) {
  char* ordered = &ordered_[barriers_ % 2];
  happens_before(ordered);
  if (at_barrier_ == 0) {
    barrier_site_ = site;
  } else if (!same_site(site, barrier_site_)) {
    threads_[current_].site = site;
    fail([&] {
      return "divergent barrier: thread " + std::to_string(current_) + " of block (" + std::to_string(blockIdx.x) + "," +
             std::to_string(blockIdx.y) + "," + std::to_string(blockIdx.z) + ") is at " + text_of(site) +
             ", others of its block at " + text_of(barrier_site_);
    });
  }
  threads_[current_].site = site;
  if (++at_barrier_ == count_) {
    at_barrier_ = 0;
    ++barriers_;
    for (Thread& thread : threads_) thread.state = State::kReady;
  } else {
    suspend(State::kAtBlockBarrier);
  }
  happens_after(ordered);
}

bool BlockRunner::complete(size_t warp, const Thread& arrived) const {
  if (warps_[warp].waiting < static_cast<unsigned>(std::popcount(arrived.mask))) return false;
  for (unsigned rest = arrived.mask; rest != 0; rest &= rest - 1) {
    const size_t i = warp * 32 + static_cast<size_t>(std::countr_zero(rest));
    if (i >= count_) return false;
    const Thread& other = threads_[i];
    if (other.state != State::kAtCollective || other.kind != arrived.kind || other.mask != arrived.mask ||
        !same_site(other.site, arrived.site)) {
      return false;
    }
  }
  return true;
}

void BlockRunner::finish_collective(size_t warp, unsigned mask) {
  const Thread& first = threads_[warp * 32 + static_cast<size_t>(std::countr_zero(mask))];
  if (first.kind == Collective::kLoadMatrices || first.kind == Collective::kMultiply) {
    std::array<uint64_t, 32> brought;
    for (size_t lane = 0; lane < 32; ++lane) brought[lane] = threads_[warp * 32 + lane].bits;
    first.kind == Collective::kMultiply ? finish_multiply(brought) : finish_load(brought);
  }
  unsigned votes = 0;
  for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    if (threads_[warp * 32 + static_cast<size_t>(lane)].bits != 0) votes |= 1U << lane;
  }
  for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
    Thread& thread = threads_[warp * 32 + static_cast<size_t>(std::countr_zero(rest))];
    thread.result =
        thread.kind == Collective::kBallot ? votes : threads_[warp * 32 + static_cast<size_t>(thread.source)].bits;
    thread.state = State::kReady;
    --warps_[warp].waiting;
  }
}

uint64_t BlockRunner::meet(Collective kind, unsigned mask, uint64_t bits, int source, const Site& site) {
  const size_t self = current_, warp = self / 32;
  Thread& thread = threads_[self];
  thread.site = site;
  thread.kind = kind;
  thread.mask = mask;
  thread.bits = bits;
  thread.source = source;
  const auto self_text = [&] {
    return std::string(name_of(kind)) + " at " + text_of(site) + ": lane " + std::to_string(lane());
  };
  if ((mask >> lane() & 1U) == 0) {
    fail([&] { return self_text() + " is not in its own mask " + text_of_mask(mask); });
  }
  if (kind == Collective::kShuffle && (mask >> source & 1U) == 0) {
    fail([&] {
      return self_text() + " reads lane " + std::to_string(source) + ", which is not in the mask " + text_of_mask(mask);
    });
  }
  char* ordered = &warps_[warp].ordered[warps_[warp].barriers % 2];
  if (kind == Collective::kBarrier) happens_before(ordered);
  ++warps_[warp].waiting;
  thread.state = State::kAtCollective;
  if (complete(warp, thread)) {
    if (kind == Collective::kBarrier) ++warps_[warp].barriers;
    finish_collective(warp, mask);
  } else {
    suspend(State::kAtCollective);
  }
  if (kind == Collective::kBarrier) happens_after(ordered);
  return threads_[self].result;
}

std::string BlockRunner::where(size_t i) const {
  const std::string name = "thread " + std::to_string(i);
  if (i >= count_) return name + " does not exist";
  const Thread& thread = threads_[i];
  switch (thread.state) {
    case State::kReturned:
      return name + " has returned";
    case State::kAtBlockBarrier:
      return name + " waits at __syncthreads at " + text_of(thread.site);
    case State::kAtCollective:
      return name + " waits at " + name_of(thread.kind) + " with mask " + text_of_mask(thread.mask) + " at " +
             text_of(thread.site);
    case State::kReady:
      break;
  }
  return name + " runs";
}

// No thread can go on: names one that waits, and one that it waits for.
void BlockRunner::report_stuck() {
  failed_ = true;
  for (size_t i = 0; i < count_; ++i) {
    const Thread& thread = threads_[i];
    if (thread.state != State::kAtCollective) continue;
    const size_t warp = i / 32;
    for (unsigned rest = thread.mask; rest != 0; rest &= rest - 1) {
      const size_t other = warp * 32 + static_cast<size_t>(std::countr_zero(rest));
      if (other < count_ && threads_[other].state == State::kAtCollective && threads_[other].kind == thread.kind &&
          threads_[other].mask == thread.mask && same_site(threads_[other].site, thread.site)) {
        continue;
      }
      report("a lane of the mask is missing: " + where(i) + "; " + where(other));
      return;
    }
  }
  size_t waiting = 0, other = 0;
  for (size_t i = 0; i < count_; ++i) {
    (threads_[i].state == State::kAtBlockBarrier ? waiting : other) = i;
  }
  report("divergent barrier: " + where(waiting) + "; " + where(other));
}

namespace {

// Null after a report: outside of a kernel, or in one launched as barrier-free.
BlockRunner* runner_for(const char* what, const Site& site) {
  BlockRunner& runner = BlockRunner::of_this_thread();
  if (runner.running()) return &runner;
  report(std::string(what) + " at " + text_of(site) + ": in a kernel that was launched as barrier-free, or in host code");
  return nullptr;
}

}  // namespace

void block_barrier(const Site& site) {
  if (BlockRunner* runner = runner_for("__syncthreads", site)) runner->block_barrier(site);
}

void warp_barrier(unsigned mask, const Site& site) {
  if (BlockRunner* runner = runner_for("__syncwarp", site)) {
    runner->meet(Collective::kBarrier, mask, 0, runner->lane(), site);
  }
}

unsigned ballot(unsigned mask, bool predicate, const Site& site) {
  BlockRunner* runner = runner_for("ballot", site);
  if (runner == nullptr) return 0;
  return static_cast<unsigned>(runner->meet(Collective::kBallot, mask, predicate ? 1 : 0, runner->lane(), site));
}

void exchange_rows(const uint16_t (&row)[8], bool transposed, uint32_t (&to)[4], const Site& site) {
  BlockRunner* runner = runner_for("ldmatrix", site);
  if (runner == nullptr) return;
  MatrixRow mine;
  std::memcpy(mine.row, row, sizeof mine.row);
  mine.transposed = transposed;
  runner->meet(Collective::kLoadMatrices, 0xffffffffU, reinterpret_cast<uint64_t>(&mine), runner->lane(), site);
  std::memcpy(to, mine.elements, sizeof mine.elements);
}

void multiply_add(const uint32_t (&a)[4], uint32_t b0, uint32_t b1, float (&c)[4], const Site& site) {
  BlockRunner* runner = runner_for("mma", site);
  if (runner == nullptr) return;
  MatrixParts mine{{a[0], a[1], a[2], a[3]}, {b0, b1}, {c[0], c[1], c[2], c[3]}};
  runner->meet(Collective::kMultiply, 0xffffffffU, reinterpret_cast<uint64_t>(&mine), runner->lane(), site);
  std::memcpy(c, mine.c, sizeof mine.c);
}

bool lies_in_shared(const char* what, const void* address, const Site& site) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(address), base = reinterpret_cast<uintptr_t>(dynamic_shared());
  if (runner_for(what, site) == nullptr) return false;
  if (at % 16 == 0 && at >= base && at + 16 <= base + dynamic_shared_bytes()) return true;
  report(std::string(what) + " at " + text_of(site) + ": " + hex(address) +
         (at % 16 == 0 ? " is not in the block's dynamic shared memory" : " is no multiple of 16 bytes"));
  return false;
}

void remember_copy(const PendingCopy& copy, const Site& site) {
  if (reinterpret_cast<uintptr_t>(copy.global) % 16 != 0) {
    report("cp.async at " + text_of(site) + ": " + hex(copy.global) + " is no multiple of 16 bytes");
  } else {
    BlockRunner::of_this_thread().copies().push_back(copy);
  }
}

bool take_copy(PendingCopy& copy, const Site& site) {
  BlockRunner* runner = runner_for("cp.async.wait_all", site);
  if (runner == nullptr || runner->copies().empty()) return false;
  copy = runner->copies().back();
  runner->copies().pop_back();
  return true;
}

uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t bits, int argument, int width, const Site& site) {
  BlockRunner* runner = runner_for("shuffle", site);
  if (runner == nullptr) return bits;
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) {
    report("shuffle at " + text_of(site) + ": width " + std::to_string(width) + " is not a power of two up to 32");
    return bits;
  }
  const int lane = runner->lane();
  const int first = lane & ~(width - 1), last = first + width - 1;
  int source = lane;
  switch (kind) {
    case Shuffle::kIndex:
      source = first + (argument & (width - 1));
      break;
    case Shuffle::kUp:
      source = lane - argument < first ? lane : lane - argument;
      break;
    case Shuffle::kDown:
      source = lane + argument > last ? lane : lane + argument;
      break;
    case Shuffle::kXor:
      source = (lane ^ argument) > last ? lane : lane ^ argument;
      break;
  }
  return runner->meet(Collective::kShuffle, mask, bits, source & 31, site);
}

}  // namespace cuda_host
