#include "dist/comm/decorators.h"

#include <thread>

#include "core/base/index.h"
#include "core/base/rng.h"

namespace muonp::dist {

void Decorator::barrier() {
  run({}, [&] { inner_.barrier(); });
}

void Decorator::broadcast(Span data, int root) {
  run({.kind = OperationKind::broadcast, .count = data.count, .dtype = data.dtype, .root = root},
      [&] { inner_.broadcast(data, root); });
}

void Decorator::all_reduce(Span data, Reduce op) {
  run({.kind = OperationKind::all_reduce, .count = data.count, .dtype = data.dtype, .reduce = op},
      [&] { inner_.all_reduce(data, op); });
}

void Decorator::all_reduce(std::span<double> values, Reduce op) {
  run({.kind = OperationKind::all_reduce_values, .count = std::ssize(values), .reduce = op},
      [&] { inner_.all_reduce(values, op); });
}

void Decorator::reduce_scatter(Span data) {
  run({.kind = OperationKind::reduce_scatter, .count = data.count, .dtype = data.dtype},
      [&] { inner_.reduce_scatter(data); });
}

void Decorator::all_gather(Span data) {
  run({.kind = OperationKind::all_gather, .count = data.count, .dtype = data.dtype}, [&] { inner_.all_gather(data); });
}

void Decorator::exchange(std::span<const Transfer> sends, std::span<const Transfer> receives) {
  run({.kind = OperationKind::exchange, .sends = sends, .receives = receives}, [&] { inner_.exchange(sends, receives); });
}

std::vector<std::string> Decorator::all_gather_bytes(const std::string& mine) {
  std::vector<std::string> all(static_cast<std::size_t>(size()));
  run({.kind = OperationKind::all_gather_bytes, .count = std::ssize(mine)}, [&] { all = inner_.all_gather_bytes(mine); });
  return all;
}

bool Recording::before(const Operation& operation) {
  Record record{operation.kind, operation.count, operation.dtype, bytes_sent(operation, rank(), size())};
  if (operation.kind == OperationKind::exchange) {
    for (const Transfer& t : operation.sends) record.count += t.peer == rank() ? 0 : t.span.count;
    if (!operation.sends.empty()) record.dtype = operation.sends[0].span.dtype;
  }
  const std::lock_guard lock(mutex_);
  if (keep_ == Keep::records) records_.push_back(record);
  Total& total = totals_[core::at(operation.kind)];
  ++total.calls;
  total.bytes += record.bytes;
  return true;
}

std::vector<Recording::Record> Recording::records() const {
  const std::lock_guard lock(mutex_);
  return records_;
}

Recording::Total Recording::total(OperationKind kind) const {
  const std::lock_guard lock(mutex_);
  return totals_[core::at(kind)];
}

Recording::Total Recording::total() const {
  const std::lock_guard lock(mutex_);
  Total sum;
  for (const Total& t : totals_) {
    sum.calls += t.calls;
    sum.bytes += t.bytes;
  }
  return sum;
}

void Recording::clear() {
  const std::lock_guard lock(mutex_);
  records_.clear();
  totals_ = {};
}

bool Checking::before(const Operation& operation) {
  const std::vector<std::string> encoded = inner().all_gather_bytes(encode(operation));
  std::vector<std::vector<Transfer>> transfers(encoded.size());
  std::vector<Operation> by_rank;
  for (std::size_t r = 0; r < encoded.size(); ++r) by_rank.push_back(decode(encoded[r], transfers[r]));
  if (const std::string why = mismatch(by_rank); !why.empty()) throw core::Error(why);
  return true;
}

bool Faulty::before(const Operation& operation) {
  if (calls_++ != k_) return true;
  if (fault_ == Fault::drop) return false;
  core::fail("injected fault at operation {}: {}", k_, describe(operation));
}

bool Delayed::before(const Operation&) {
  const auto most = static_cast<std::uint64_t>(longest_.count()) + 1;
  const std::uint64_t microseconds = core::random_below(seed_, static_cast<std::uint64_t>(rank()), calls_++, most);
  std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
  return true;
}

}  // namespace muonp::dist
