// Communicators around a communicator: they record, check, break or delay its operations. The inner one must
// outlive them and has the same rank and size. Like any communicator, one thread at a time.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <mutex>

#include "dist/comm/operation.h"

namespace muonp::dist {

// Forwards everything; before() sees each operation first and says whether it is to be run, after() what was run.
class Decorator : public Communicator {
 public:
  explicit Decorator(Communicator& inner) : inner_(inner) {}
  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  std::string description() const override { return inner_.description(); }
  void barrier() override;
  void broadcast(Span data, int root) override;
  void all_reduce(Span data, Reduce op) override;
  void all_reduce(std::span<double> values, Reduce op) override;
  void reduce_scatter(Span data) override;
  void all_gather(Span data) override;
  void exchange(std::span<const Transfer> sends, std::span<const Transfer> receives) override;
  std::vector<std::string> all_gather_bytes(const std::string& mine) override;
  void begin_overlap() override { inner_.begin_overlap(); }
  Mark end_overlap() override { return inner_.end_overlap(); }
  void wait_for(Mark mark) override { inner_.wait_for(mark); }
  std::string abort(const std::string& why) noexcept override { return inner_.abort(why); }
  bool roll_is_called() override { return inner_.roll_is_called(); }
  std::string call_roll(bool waited) override { return inner_.call_roll(waited); }

 protected:
  virtual bool before(const Operation& operation) = 0;
  virtual void after(const Operation& /*operation*/) {}
  Communicator& inner() const { return inner_; }

 private:
  template <class F>
  void run(const Operation& operation, const F& work) {
    if (!before(operation)) return;
    work();
    after(operation);
  }
  Communicator& inner_;
};

// Counts what this rank sends (bytes_sent() in dist/comm/operation.h has the formulas). May be read by another
// thread.
class Recording final : public Decorator {
 public:
  struct Record {
    OperationKind kind;
    std::int64_t count;  // elements; of an exchange: sent to others
    core::Dtype dtype;   // of an exchange: of its first send
    std::int64_t bytes;  // sent by this rank to others
  };
  struct Total {
    std::int64_t calls = 0, bytes = 0;
  };
  enum class Keep : std::uint8_t { records, totals };  // records grow with every call: for tests

  explicit Recording(Communicator& inner, Keep keep = Keep::records) : Decorator(inner), keep_(keep) {}
  std::vector<Record> records() const;
  Total total(OperationKind kind) const;
  Total total() const;
  void clear();

 private:
  bool before(const Operation& operation) override;
  Keep keep_;
  mutable std::mutex mutex_;
  std::vector<Record> records_;
  std::array<Total, kOperationKinds> totals_{};
};

// Compares kind, count, element type, root and reduction, and each message of an exchange, over all ranks
// before the operation runs; the first difference is the same Error on every rank. Costs one all_gather_bytes
// per operation.
class Checking final : public Decorator {
 public:
  using Decorator::Decorator;

 private:
  bool before(const Operation& operation) override;
};

// Breaks the k-th operation (from 0) on this rank.
enum class Fault : std::uint8_t {
  error,  // throws Error "injected fault at operation k: ..."
  drop    // returns without running it
};
class Faulty final : public Decorator {
 public:
  Faulty(Communicator& inner, std::int64_t k, Fault fault) : Decorator(inner), k_(k), fault_(fault) {}

 private:
  bool before(const Operation& operation) override;
  std::int64_t k_, calls_ = 0;
  Fault fault_;
};

// Sleeps before each operation, between 0 and `longest`, by a hash of (seed, rank, call): ranks drift apart.
class Delayed final : public Decorator {
 public:
  Delayed(Communicator& inner, std::chrono::microseconds longest, std::uint64_t seed)
      : Decorator(inner), longest_(longest), seed_(seed) {}

 private:
  bool before(const Operation& operation) override;
  std::chrono::microseconds longest_;
  std::uint64_t seed_, calls_ = 0;
};

}  // namespace muonp::dist
