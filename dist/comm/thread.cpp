#include "dist/comm/thread.h"

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

#include "core/base/index.h"
#include "core/base/math.h"
#include "dist/comm/operation.h"
#include "dist/comm/reduction.h"

namespace muonp::dist {

namespace {

// What one rank brings to an operation.
struct Posting {
  Operation operation;
  void* data = nullptr;               // of the span, or doubles
  const std::string* text = nullptr;  // of all_gather_bytes
};

class RankGroup {
 public:
  explicit RankGroup(int size) : postings_(static_cast<std::size_t>(size)) {}
  int size() const { return core::to_int(postings_.size()); }
  // Of other ranks: valid between enter() and leave() of an operation.
  const Posting& posting(int rank) const { return postings_[core::at(rank)]; }

  // Returns when every rank has posted the same operation; throws when the group is aborted or they do not
  // fit.
  void enter(int rank, const Posting& posting) {
    std::unique_lock lock(mutex_);
    postings_[core::at(rank)] = posting;
    if (why_.empty() && ended_ >= 0)
      why_ = fmt::format("rank {} has ended while others wait in {}", ended_, describe(posting.operation));
    if (why_.empty() && arrived_ + 1 == size()) why_ = mismatch(operations());
    if (!why_.empty()) {
      changed_.notify_all();
      throw core::Error(why_);
    }
    wait_for_all(lock, true);
  }
  // Between the phases of an operation. Nothing but memory copies lies between enter() and here, so all ranks
  // come; an abort must not let one rank go while another still reads its memory.
  void meet() {
    std::unique_lock lock(mutex_);
    wait_for_all(lock, false);
  }

  std::string abort(const std::string& why) {
    const std::lock_guard lock(mutex_);
    if (why_.empty()) why_ = why.empty() ? "aborted" : why;
    changed_.notify_all();
    return why_;
  }
  void end(int rank) {
    const std::lock_guard lock(mutex_);
    if (ended_ < 0) ended_ = rank;
    if (why_.empty() && arrived_ > 0) why_ = fmt::format("rank {} has ended while others wait for it in an operation", rank);
    changed_.notify_all();
  }
  // The first failure of any rank; later ones are its consequences.
  void fail(int rank, std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    if (failed_rank_ >= 0) return;
    failed_rank_ = rank;
    error_ = std::move(error);
  }
  int failed_rank() const { return failed_rank_; }
  std::exception_ptr error() const { return error_; }

 private:
  std::vector<Operation> operations() const {
    std::vector<Operation> all;
    for (const Posting& p : postings_) all.push_back(p.operation);
    return all;
  }
  void wait_for_all(std::unique_lock<std::mutex>& lock, bool abortable) {
    const std::uint64_t mine = generation_;
    if (++arrived_ == size()) {
      arrived_ = 0;
      ++generation_;
      changed_.notify_all();
      return;
    }
    changed_.wait(lock, [&] { return generation_ != mine || (abortable && !why_.empty()); });
    if (generation_ == mine) throw core::Error(why_);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Posting> postings_;
  int arrived_ = 0;
  std::uint64_t generation_ = 0;
  int ended_ = -1;  // a rank whose body has returned
  std::string why_;
  int failed_rank_ = -1;
  std::exception_ptr error_;
};

class Thread final : public Communicator {
 public:
  Thread(RankGroup& group, int rank) : group_(group), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return group_.size(); }
  std::string description() const override { return fmt::format("{} threads of one process", size()); }

  void barrier() override {
    run({}, [] {});
  }

  void broadcast(Span data, int root) override {
    validate(data);
    run({{.kind = OperationKind::broadcast, .count = data.count, .dtype = data.dtype, .root = root}, data.data},
        [&] { copy(data.data, group_.posting(root).data, data.bytes()); });
  }

  void all_reduce(Span data, Reduce op) override {
    validate(data);
    run({{.kind = OperationKind::all_reduce, .count = data.count, .dtype = data.dtype, .reduce = op}, data.data}, [&] {
      const Cut mine = cut(data.count, size(), rank_);
      reduce_part(data, mine.begin, mine.count, op);
      group_.meet();
      for (int r = 0; r < size(); ++r) copy_part(data, r);
    });
  }

  void all_reduce(std::span<double> values, Reduce op) override {
    const auto count = std::ssize(values);
    run({{.kind = OperationKind::all_reduce_values, .count = count, .reduce = op}, values.data()}, [&] {
      std::vector<const double*> sources;
      for (int r = 0; r < size(); ++r) sources.push_back(static_cast<const double*>(group_.posting(r).data));
      std::vector<double> result(values.size());
      reduce_in_order(sources, result.data(), count, op);
      group_.meet();
      std::copy(result.begin(), result.end(), values.begin());
    });
  }

  void reduce_scatter(Span data) override {
    validate(data);
    run({{.kind = OperationKind::reduce_scatter, .count = data.count, .dtype = data.dtype}, data.data}, [&] {
      const Cut mine = cut(data.count, size(), rank_);
      reduce_part(data, mine.begin, mine.count, Reduce::sum);
    });
  }

  void all_gather(Span data) override {
    validate(data);
    run({{.kind = OperationKind::all_gather, .count = data.count, .dtype = data.dtype}, data.data}, [&] {
      for (int r = 0; r < size(); ++r) copy_part(data, r);
    });
  }

  void exchange(std::span<const Transfer> sends, std::span<const Transfer> receives) override {
    run({{.kind = OperationKind::exchange, .sends = sends, .receives = receives}}, [&] {
      std::vector<std::size_t> next(static_cast<std::size_t>(size()),
                                    0);  // by peer: where to go on in its sends
      for (const Transfer& to : receives) {
        const auto from = group_.posting(to.peer).operation.sends;
        std::size_t& i = next[core::at(to.peer)];
        while (from[i].peer != rank_) ++i;
        copy(to.span.data, from[i++].span.data, to.span.bytes());
      }
    });
  }

  std::vector<std::string> all_gather_bytes(const std::string& mine) override {
    std::vector<std::string> all;
    const auto length = std::ssize(mine);
    run({{.kind = OperationKind::all_gather_bytes, .count = length}, nullptr, &mine}, [&] {
      for (int r = 0; r < size(); ++r) all.push_back(*group_.posting(r).text);
    });
    return all;
  }

  std::string abort(const std::string& why) noexcept override {
    try {
      return group_.abort(why);
    } catch (...) {
      return {};
    }
  }

 private:
  template <class F>
  void run(const Posting& posting, const F& work) {
    MUONP_ASSERT(!busy_.exchange(true), "two threads in the communicator of rank {}", rank_);
    const struct Release {
      std::atomic<bool>& busy;
      ~Release() { busy = false; }
    } release{busy_};
    validate(posting.operation, rank_, size());
    group_.enter(rank_, posting);
    // noexcept: others may be reading this rank's memory, so running out of memory here ends the process.
    [&]() noexcept { work(); }();
    group_.meet();
  }

  static void copy(void* to, const void* from, std::int64_t bytes) {
    if (to != from && bytes > 0) std::memmove(to, from, static_cast<std::size_t>(bytes));
  }
  void copy_part(Span data, int from) const {
    if (from == rank_) return;
    const Cut c = cut(data.count, size(), from);
    const Span theirs = Span(group_.posting(from).data, data.count, data.dtype).part(c.begin, c.count);
    copy(data.part(c.begin, c.count).data, theirs.data, theirs.bytes());
  }
  void reduce_part(Span data, std::int64_t begin, std::int64_t count, Reduce op) const {
    std::vector<const void*> sources;
    for (int r = 0; r < size(); ++r)
      sources.push_back(Span(group_.posting(r).data, data.count, data.dtype).part(begin, count).data);
    reduce_in_order(sources, data.part(begin, count).data, count, data.dtype, op);
  }

  RankGroup& group_;
  int rank_;
  std::atomic<bool> busy_ = false;
};

void run_one(RankGroup& group, int rank, const std::function<void(Communicator&)>& body) {
  try {
    Thread communicator(group, rank);
    body(communicator);
    group.end(rank);
  } catch (const std::exception& e) {
    group.fail(rank, std::current_exception());
    group.abort(fmt::format("rank {} of {} failed: {}", rank, group.size(), e.what()));
  } catch (...) {
    group.fail(rank, std::current_exception());
    group.abort(fmt::format("rank {} of {} failed", rank, group.size()));
  }
}

[[noreturn]] void rethrow(const RankGroup& group) {
  const std::string where = fmt::format("rank {} of {}: ", group.failed_rank(), group.size());
  try {
    std::rethrow_exception(group.error());
  } catch (const core::InternalError& e) {
    throw core::InternalError(where + e.what());
  } catch (const std::exception& e) {
    throw core::Error(where + e.what());
  } catch (...) {
    throw core::Error(where + "an exception that is no std::exception");
  }
}

}  // namespace

void run_ranks(int n, const std::function<void(Communicator&)>& body) {
  MUONP_ASSERT(n >= 1, "{} ranks", n);
  RankGroup group(n);
  std::vector<std::jthread> threads;
  try {
    for (int r = 0; r < n; ++r) threads.emplace_back([&group, r, &body] { run_one(group, r, body); });
  } catch (const std::exception& e) {
    group.abort(fmt::format("{} threads cannot be started: {}", n, e.what()));
    threads.clear();
    core::fail("{} ranks as threads: {}", n, e.what());
  }
  threads.clear();  // joins
  if (group.failed_rank() >= 0) rethrow(group);
}

}  // namespace muonp::dist
