#include "dist/comm/operation.h"

#include "core/base/index.h"
#include "core/base/math.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace muonp::dist {

std::string_view name_of(OperationKind kind) {
  static constexpr std::array<std::string_view, kOperationKinds> kNames = {
      "barrier",        "broadcast",  "all_reduce", "all_reduce of doubles",
      "reduce_scatter", "all_gather", "exchange",   "all_gather_bytes"};
  return kNames[core::at(kind)];
}

std::string_view name_of(Reduce reduce) { return reduce == Reduce::sum ? "sum" : reduce == Reduce::max ? "max" : "min"; }

std::string describe(const Operation& o) {
  const std::string what = fmt::format("{} {}", o.count, name_of(o.dtype));
  switch (o.kind) {
    case OperationKind::barrier:
    case OperationKind::all_gather_bytes:
      return std::string(name_of(o.kind));
    case OperationKind::broadcast:
      return fmt::format("broadcast of {} from rank {}", what, o.root);
    case OperationKind::all_reduce:
      return fmt::format("all_reduce({}) of {}", name_of(o.reduce), what);
    case OperationKind::all_reduce_values:
      return fmt::format("all_reduce({}) of {} doubles", name_of(o.reduce), o.count);
    case OperationKind::exchange:
      return fmt::format("exchange of {} sends, {} receives", o.sends.size(), o.receives.size());
    default:
      return fmt::format("{} of {}", name_of(o.kind), what);
  }
}

Cut cut(std::int64_t count, int parts, int part) {
  const std::int64_t each = count / parts, longer = count % parts;
  return {part * each + std::min<std::int64_t>(part, longer), each + (part < longer ? 1 : 0)};
}

namespace {

std::int64_t sent_to_others(std::span<const Transfer> sends, int rank) {
  std::int64_t bytes = 0;
  for (const Transfer& t : sends)
    if (t.peer != rank) bytes += t.span.bytes();
  return bytes;
}

}  // namespace

std::int64_t bytes_sent(const Operation& o, int rank, int size) {
  const std::int64_t element = core::size_of(o.dtype), others = size - 1;
  const std::int64_t mine = cut(o.count, size, rank).count;
  const std::int64_t scatter = (o.count - mine) * element, gather = others * mine * element;
  switch (o.kind) {
    case OperationKind::barrier:
      return 0;
    case OperationKind::broadcast:
      return rank == o.root ? scatter + gather : (others - 1) * mine * element;
    case OperationKind::all_reduce:
      return is_short(o.count * element) ? others * o.count * element : scatter + gather;
    case OperationKind::all_reduce_values:
      return others * o.count * 8;
    case OperationKind::reduce_scatter:
      return scatter;
    case OperationKind::all_gather:
      return gather;
    case OperationKind::exchange:
      return sent_to_others(o.sends, rank);
    case OperationKind::all_gather_bytes:
      return others * (8 + o.count);
  }
  return 0;
}

void validate(Span data) {
  MUONP_ASSERT(data.count >= 0 && (data.data != nullptr || data.count == 0), "a span of {} elements at {}", data.count,
               fmt::ptr(data.data));
}

void validate(const Operation& o, int rank, int size) {
  if (o.kind == OperationKind::broadcast) MUONP_ASSERT(o.root >= 0 && o.root < size, "root {} of {} ranks", o.root, size);
  if (o.kind == OperationKind::reduce_scatter || o.kind == OperationKind::all_gather)
    MUONP_ASSERT(o.count % size == 0, "{} on {} ranks: the slices are not equal", describe(o), size);
  std::int64_t to_self = 0;
  for (const Transfer& t : o.sends) {
    MUONP_ASSERT(t.peer >= 0 && t.peer < size, "exchange with rank {} of {}", t.peer, size);
    validate(t.span);
    to_self += t.peer == rank;
  }
  for (const Transfer& t : o.receives) {
    MUONP_ASSERT(t.peer >= 0 && t.peer < size, "exchange with rank {} of {}", t.peer, size);
    validate(t.span);
    to_self -= t.peer == rank;
  }
  MUONP_ASSERT(to_self == 0, "rank {} sends itself {} messages more than it receives", rank, to_self);
}

namespace {

bool fits(const Operation& a, const Operation& b) {
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case OperationKind::barrier:
    case OperationKind::exchange:
    case OperationKind::all_gather_bytes:
      return true;
    case OperationKind::broadcast:
      return a.count == b.count && a.dtype == b.dtype && a.root == b.root;
    case OperationKind::all_reduce:
      return a.count == b.count && a.dtype == b.dtype && a.reduce == b.reduce;
    case OperationKind::all_reduce_values:
      return a.count == b.count && a.reduce == b.reduce;
    default:
      return a.count == b.count && a.dtype == b.dtype;
  }
}

std::vector<Span> with_peer(std::span<const Transfer> transfers, int peer) {
  std::vector<Span> spans;
  for (const Transfer& t : transfers)
    if (t.peer == peer) spans.push_back(t.span);
  return spans;
}

std::string exchange_mismatch(std::span<const Operation> by_rank) {
  const int size = core::to_int(by_rank.size());
  for (int from = 0; from < size; ++from)
    for (int to = 0; to < size; ++to) {
      const auto sent = with_peer(by_rank[core::at(from)].sends, to);
      const auto expected = with_peer(by_rank[core::at(to)].receives, from);
      if (sent.size() != expected.size())
        return fmt::format("exchange: rank {} sends {} messages to rank {}, which expects {}", from, sent.size(), to,
                           expected.size());
      for (std::size_t k = 0; k < sent.size(); ++k)
        if (sent[k].count != expected[k].count || sent[k].dtype != expected[k].dtype)
          return fmt::format("exchange: message {} from rank {} to rank {} is {} {}, where {} {} are expected", k, from, to,
                             sent[k].count, name_of(sent[k].dtype), expected[k].count, name_of(expected[k].dtype));
    }
  return {};
}

}  // namespace

std::string mismatch(std::span<const Operation> by_rank) {
  for (std::size_t r = 1; r < by_rank.size(); ++r)
    if (!fits(by_rank[0], by_rank[r]))
      return fmt::format("the ranks do not agree on the next operation: rank 0 calls {}, rank {} calls {}",
                         describe(by_rank[0]), r, describe(by_rank[r]));
  return by_rank[0].kind == OperationKind::exchange ? exchange_mismatch(by_rank) : std::string();
}

namespace {

void put(std::string& to, std::int64_t value) { to.append(reinterpret_cast<const char*>(&value), sizeof value); }

struct Reader {
  const std::string& from;
  std::size_t at = 0;
  std::int64_t next() {
    std::int64_t value = 0;
    MUONP_ASSERT(at + sizeof value <= from.size(), "an encoded operation ends at byte {}", from.size());
    std::memcpy(&value, from.data() + at, sizeof value);
    at += sizeof value;
    return value;
  }
};

}  // namespace

std::string encode(const Operation& o) {
  std::string out;
  for (std::int64_t value :
       {static_cast<std::int64_t>(o.kind), o.count, static_cast<std::int64_t>(o.dtype), static_cast<std::int64_t>(o.root),
        static_cast<std::int64_t>(o.reduce), std::ssize(o.sends), std::ssize(o.receives)})
    put(out, value);
  for (const auto& list : {o.sends, o.receives})
    for (const Transfer& t : list)
      for (std::int64_t value : {static_cast<std::int64_t>(t.peer), t.span.count, static_cast<std::int64_t>(t.span.dtype)})
        put(out, value);
  return out;
}

Operation decode(const std::string& encoded, std::vector<Transfer>& transfers) {
  Reader in{encoded};
  Operation o;
  o.kind = static_cast<OperationKind>(in.next());
  o.count = in.next();
  o.dtype = static_cast<core::Dtype>(in.next());
  o.root = static_cast<int>(in.next());
  o.reduce = static_cast<Reduce>(in.next());
  const auto sends = static_cast<std::size_t>(in.next()), receives = static_cast<std::size_t>(in.next());
  transfers.clear();
  for (std::size_t i = 0; i < sends + receives; ++i) {
    const auto peer = static_cast<int>(in.next());
    const std::int64_t count = in.next();
    transfers.push_back({peer, {nullptr, count, static_cast<core::Dtype>(in.next())}});
  }
  o.sends = std::span<const Transfer>(transfers).first(sends);
  o.receives = std::span<const Transfer>(transfers).last(receives);
  return o;
}

}  // namespace muonp::dist
