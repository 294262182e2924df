#include "launch/bench/collectives_benchmark.h"

#include <algorithm>
#include <functional>
#include <span>
#include <string>

#include "core/base/index.h"
#include "core/base/storage.h"
#include "core/device/tensor.h"

namespace muonp::launch {

using core::Tensor;
using dist::OperationKind;
using dist::Reduce;

double CollectiveResult::bus_bandwidth(int ranks) const {
  const double n = ranks, share = (n - 1) / n;
  switch (what.kind) {
    case OperationKind::all_reduce:
    case OperationKind::all_reduce_values:
      return algorithm_bandwidth() * 2 * share;
    case OperationKind::broadcast:
    case OperationKind::barrier:
      return algorithm_bandwidth();
    default:
      return algorithm_bandwidth() * share;
  }
}

namespace {

// Element i of a rank: small integers, so that sums are exact before they are rounded to the type.
double value_of(std::int64_t i, int rank) { return static_cast<double>((7 * i + 3 * rank) % 13); }

double reduced(std::int64_t i, int ranks, Reduce reduce) {
  double result = value_of(i, 0);
  for (int r = 1; r < ranks; ++r) {
    const double next = value_of(i, r);
    result = reduce == Reduce::sum ? result + next : reduce == Reduce::max ? std::max(result, next) : std::min(result, next);
  }
  return result;
}

using Values = std::function<double(std::int64_t)>;

// A span of a device's memory that is written and compared from the host.
class Buffer {
 public:
  Buffer(core::Device& device, std::int64_t count, core::Dtype dtype)
      : device_(device), tensor_(Tensor::empty(device, {count}, dtype, core::Category::other)) {}
  dist::Span span() const { return dist::Span(tensor_); }
  void fill(const Values& value) const {
    core::with_storage(tensor_.dtype(), [&]<class T>(T) {
      std::vector<T> values(core::at(tensor_.size()));
      for (std::int64_t i = 0; i < tensor_.size(); ++i) values[core::at(i)] = T(static_cast<float>(value(i)));
      device_.queue().write(tensor_.raw(), values.data(), tensor_.bytes());
    });
  }
  std::int64_t wrong(std::int64_t begin, std::int64_t end, const Values& value) const {
    std::int64_t wrong = 0;
    core::with_storage(tensor_.dtype(), [&]<class T>(T) {
      std::vector<T> values(core::at(tensor_.size()));
      device_.queue().read(values.data(), tensor_.raw(), tensor_.bytes());
      for (std::int64_t i = begin; i < end; ++i)
        wrong += static_cast<float>(values[core::at(i)]) != static_cast<float>(T(static_cast<float>(value(i))));
    });
    return wrong;
  }

 private:
  core::Device& device_;
  Tensor tensor_;
};

// An operation on memory of its own: prepare() gives it its input, and wrong() looks at what call() made of that.
struct Trial {
  std::int64_t count = 0, bytes = 0;
  bool in_place = true;
  std::function<void()> prepare, call;
  std::function<std::int64_t()> wrong;
};

Trial trial_of_values(dist::Communicator& c, const CollectiveCase& what) {
  const std::int64_t count = std::max<std::int64_t>(1, what.bytes / 8);
  const auto values = std::make_shared<std::vector<double>>(core::at(count));
  const int rank = c.rank(), ranks = c.size();
  return {count,
          8 * count,
          true,
          [values, rank] {
            for (std::size_t i = 0; i < values->size(); ++i) (*values)[i] = value_of(static_cast<std::int64_t>(i), rank);
          },
          [values, &c, reduce = what.reduce] { c.all_reduce(std::span<double>(*values), reduce); },
          [values, ranks, reduce = what.reduce] {
            std::int64_t wrong = 0;
            for (std::size_t i = 0; i < values->size(); ++i)
              wrong += (*values)[i] != reduced(static_cast<std::int64_t>(i), ranks, reduce);
            return wrong;
          }};
}

std::string text_of(std::int64_t length, int rank) {
  std::string text(core::at(length), ' ');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(value_of(static_cast<std::int64_t>(i), rank));
  return text;
}

Trial trial_of_strings(dist::Communicator& c, const CollectiveCase& what) {
  const int ranks = c.size();
  const std::int64_t length = std::max<std::int64_t>(1, (what.bytes + ranks - 1) / ranks);
  const auto all = std::make_shared<std::vector<std::string>>();
  const auto mine = std::make_shared<std::string>(text_of(length, c.rank()));
  return {length * ranks,
          length * ranks,
          false,
          [all] { all->clear(); },
          [all, mine, &c] { *all = c.all_gather_bytes(*mine); },
          [all, ranks, length] {
            std::int64_t wrong = 0;
            for (int r = 0; r < ranks; ++r)
              wrong += all->size() != core::at(ranks) || (*all)[core::at(r)] != text_of(length, r);
            return wrong;
          }};
}

// Slice r of what a rank sends goes to rank r.
Trial trial_of_exchange(dist::Communicator& c, core::Device& device, std::int64_t count, core::Dtype dtype) {
  const int rank = c.rank(), ranks = c.size();
  const std::int64_t slice = count / ranks;
  const auto from = std::make_shared<Buffer>(device, count, dtype), to = std::make_shared<Buffer>(device, count, dtype);
  std::vector<dist::Transfer> sends, receives;
  for (int r = 0; r < ranks; ++r) {
    sends.push_back({r, from->span().part(r * slice, slice)});
    receives.push_back({r, to->span().part(r * slice, slice)});
  }
  return {count,
          from->span().bytes(),
          false,
          [=] {
            from->fill([rank](std::int64_t i) { return value_of(i, rank); });
            to->fill([](std::int64_t) { return 100; });
          },
          [=, &c] { c.exchange(sends, receives); },
          [=] {
            return to->wrong(
                0, count, [=](std::int64_t i) { return value_of(rank * slice + i % slice, static_cast<int>(i / slice)); });
          }};
}

// Operations on one span.
Trial trial_of_span(dist::Communicator& c, core::Device& device, const CollectiveCase& what, std::int64_t count) {
  const int rank = c.rank(), ranks = c.size();
  const std::int64_t slice = count / ranks;
  const auto buffer = std::make_shared<Buffer>(device, count, what.dtype);
  const dist::Span span = buffer->span();
  Trial trial{count, span.bytes(), true, {}, {}, {}};
  const bool gathers = what.kind == OperationKind::all_gather, spreads = what.kind == OperationKind::broadcast;
  trial.prepare = [=] {
    buffer->fill([=](std::int64_t i) {
      const bool mine = gathers ? i / slice == rank : !spreads || rank == 0;
      return mine ? value_of(i, rank) : 100;
    });
  };
  const auto check = [=](std::int64_t begin, std::int64_t end, const Values& value) {
    return [=] { return buffer->wrong(begin, end, value); };
  };
  if (spreads) {
    trial.call = [=, &c] { c.broadcast(span, 0); };
    trial.wrong = check(0, count, [](std::int64_t i) { return value_of(i, 0); });
  } else if (gathers) {
    trial.call = [=, &c] { c.all_gather(span); };
    trial.wrong = check(0, count, [=](std::int64_t i) { return value_of(i, static_cast<int>(i / slice)); });
  } else if (what.kind == OperationKind::reduce_scatter) {
    trial.call = [=, &c] { c.reduce_scatter(span); };
    trial.wrong = check(rank * slice, (rank + 1) * slice, [=](std::int64_t i) { return reduced(i, ranks, Reduce::sum); });
  } else {
    trial.call = [=, &c, reduce = what.reduce] { c.all_reduce(span, reduce); };
    trial.wrong = check(0, count, [=, reduce = what.reduce](std::int64_t i) { return reduced(i, ranks, reduce); });
  }
  return trial;
}

Trial trial_of(dist::Communicator& c, core::Device& device, const CollectiveCase& what) {
  switch (what.kind) {
    case OperationKind::barrier:
      return {0, 0, true, [] {}, [&c] { c.barrier(); }, [] { return std::int64_t{0}; }};
    case OperationKind::all_reduce_values:
      return trial_of_values(c, what);
    case OperationKind::all_gather_bytes:
      return trial_of_strings(c, what);
    default:
      break;
  }
  const std::int64_t wanted = std::max<std::int64_t>(1, what.bytes / core::size_of(what.dtype)), n = c.size();
  const std::int64_t count = (wanted + n - 1) / n * n;
  if (what.kind == OperationKind::exchange) return trial_of_exchange(c, device, count, what.dtype);
  return trial_of_span(c, device, what, count);
}

}  // namespace

CollectiveResult run_collective(dist::Communicator& communicator, core::Device& device, const CollectiveCase& what,
                                double budget_seconds) {
  const Trial trial = trial_of(communicator, device, what);
  double wrong = 0;
  const auto check = [&] {
    trial.prepare();
    trial.call();
    device.queue().synchronize();
    wrong += static_cast<double>(trial.wrong());
  };
  check();
  trial.prepare();
  const Timing timing = time_together(communicator, device.queue(), trial.call, budget_seconds);
  check();
  communicator.all_reduce(std::span<double>(&wrong, 1), Reduce::sum);
  return {what, trial.count, trial.bytes, timing, static_cast<std::int64_t>(wrong), trial.in_place};
}

std::vector<CollectiveCase> all_collectives(std::span<const core::Dtype> types, std::int64_t least, std::int64_t most,
                                            std::int64_t factor) {
  std::vector<CollectiveCase> cases = {{.kind = OperationKind::barrier}};
  const auto add = [&](OperationKind kind, core::Dtype type, Reduce reduce) {
    for (std::int64_t bytes = least; bytes <= most; bytes *= factor)
      cases.push_back({.kind = kind, .dtype = type, .reduce = reduce, .bytes = bytes});
  };
  for (const Reduce reduce : {Reduce::sum, Reduce::max, Reduce::min})
    add(OperationKind::all_reduce_values, core::Dtype::float32, reduce);
  add(OperationKind::all_gather_bytes, core::Dtype::uint8, Reduce::sum);
  for (const core::Dtype type : types) {
    for (const Reduce reduce : {Reduce::sum, Reduce::max, Reduce::min}) add(OperationKind::all_reduce, type, reduce);
    for (const OperationKind kind :
         {OperationKind::reduce_scatter, OperationKind::all_gather, OperationKind::broadcast, OperationKind::exchange})
      add(kind, type, Reduce::sum);
  }
  return cases;
}

}  // namespace muonp::launch
