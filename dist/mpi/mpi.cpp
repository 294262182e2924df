#include "dist/mpi/mpi.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>

#include "core/base/index.h"
#include "dist/comm/operation.h"
#include "dist/comm/reduction.h"
#include "dist/mpi/messages.h"
#include "dist/mpi/requests.h"

namespace muonp::dist {

namespace {

constexpr std::int64_t kLongestReduction = std::int64_t{1} << 20, kShortestReduction = std::int64_t{1} << 16;
constexpr std::int64_t kStagingBytes = std::int64_t{4} << 20;
constexpr int kTags = 32767;  // every MPI has at least one more, the roll call's

char* bytes_of(Span span) { return static_cast<char*>(span.data); }

class Mpi final : public Communicator {
 public:
  Mpi(const MpiSession& session, double timeout_seconds)
      : session_(session),
        comm_(create(session, timeout_seconds)),
        roll_call_(session, comm_),
        channel_{.session = session, .comm = comm_, .timeout_seconds = timeout_seconds, .roll_call = roll_call_} {}
  // After a failure it is left to the end of the process: messages may still be under way.
  ~Mpi() override {
    if (!why_.empty() || std::uncaught_exceptions() > 0) return;
    const std::lock_guard lock(session_.calls());
    MPI_Comm_free(&comm_);
  }

  int rank() const override { return session_.rank(); }
  int size() const override { return session_.size(); }
  std::string description() const override {
    return fmt::format("MPI ({}), {} rank{} on {} host{}", session_.library(), size(), size() == 1 ? "" : "s",
                       session_.hosts(), session_.hosts() == 1 ? "" : "s");
  }

  void barrier() override {
    run({}, [&] { meet_all(channel_); });
  }

  void broadcast(Span data, int root) override {
    validate(data);
    run({.kind = OperationKind::broadcast, .count = data.count, .dtype = data.dtype, .root = root}, [&] {
      std::vector<MpiMessage> sends, receives;
      if (rank() == root) {
        for (int i = 1; i < size(); ++i) sends.push_back(slice(data, after(i), after(i)));
      } else {
        receives.push_back(slice(data, rank(), root));
      }
      transfer(channel_, sends, receives);
      gather(data, root);
    });
  }

  void all_reduce(Span data, Reduce op) override {
    validate(data);
    run({.kind = OperationKind::all_reduce, .count = data.count, .dtype = data.dtype, .reduce = op}, [&] {
      if (is_short(data.bytes())) return reduce_copies(data, op);
      reduce(data, op);
      gather(data, -1);
    });
  }

  void all_reduce(std::span<double> values, Reduce op) override {
    const auto count = std::ssize(values);
    run({.kind = OperationKind::all_reduce_values, .count = count, .reduce = op}, [&] {
      const char* copies = gather_copies(values.data(), count * 8);
      const std::vector<const double*> sources = in_rank_order<double>(copies, count * 8);
      reduce_in_order(sources, values.data(), count, op);
    });
  }

  void reduce_scatter(Span data) override {
    validate(data);
    run({.kind = OperationKind::reduce_scatter, .count = data.count, .dtype = data.dtype},
        [&] { reduce(data, Reduce::sum); });
  }

  void all_gather(Span data) override {
    validate(data);
    run({.kind = OperationKind::all_gather, .count = data.count, .dtype = data.dtype},
        [&] { is_short(data.bytes() / size()) ? gather_short(data) : gather(data, -1); });
  }

  void exchange(std::span<const Transfer> sends, std::span<const Transfer> receives) override {
    run({.kind = OperationKind::exchange, .sends = sends, .receives = receives}, [&] {
      std::vector<MpiMessage> out, in;
      std::vector<Span> from_self, to_self;
      for (const Transfer& t : sends) {
        if (t.peer != rank())
          out.push_back({t.peer, bytes_of(t.span), t.span.bytes()});
        else
          from_self.push_back(t.span);
      }
      for (const Transfer& t : receives) {
        if (t.peer != rank())
          in.push_back({t.peer, bytes_of(t.span), t.span.bytes()});
        else
          to_self.push_back(t.span);
      }
      for (std::size_t i = 0; i < to_self.size(); ++i) copy_to_self(to_self[i], from_self[i]);
      transfer(channel_, out, in);
    });
  }

  std::vector<std::string> all_gather_bytes(const std::string& mine) override {
    std::vector<std::string> all(static_cast<std::size_t>(size()));
    const auto length = std::ssize(mine);
    run({.kind = OperationKind::all_gather_bytes, .count = length}, [&] {
      const std::vector<const std::int64_t*> lengths = in_rank_order<std::int64_t>(gather_copies(&length, 8), 8);
      std::vector<std::int64_t> begins = {0};
      for (int i = 0; i < size(); ++i) begins.push_back(begins.back() + *lengths[core::at(after(i))]);
      staging_.resize(static_cast<std::size_t>(begins.back()));
      std::copy(mine.begin(), mine.end(), staging_.begin());
      gather_blocks(channel_, begins, staging_.data());
      for (int i = 0; i < size(); ++i) {
        const auto block = static_cast<std::size_t>(i);
        all[core::at(after(i))].assign(staging_.data() + begins[block], staging_.data() + begins[block + 1]);
      }
      staging_ = {};  // of any length
    });
    return all;
  }

  bool roll_is_called() override { return roll_call_.is_called(); }
  std::string call_roll(bool waited) override { return roll_call_.call(waited); }
  std::string abort(const std::string& why) noexcept override { session_.abort_all(why); }

 private:
  static MPI_Comm create(const MpiSession& session, double timeout_seconds) {
    RollCall roll_call(session, MPI_COMM_WORLD);
    MpiChannel channel{.session = session,
                       .comm = MPI_COMM_WORLD,
                       .timeout_seconds = timeout_seconds,
                       .operation = "creation of a communicator",
                       .roll_call = roll_call};
    MPI_Comm comm = MPI_COMM_NULL;
    MPI_Request request = MPI_REQUEST_NULL;
    MpiRequests requests(channel);
    {
      const std::lock_guard lock(session.calls());
      MUONP_MPI(session, MPI_Comm_idup(MPI_COMM_WORLD, &comm, &request));
    }
    requests.add(request);
    requests.wait();
    MUONP_MPI(session, MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN));
    return comm;
  }

  // Peers in an order that spreads the load: in step i everyone sends to the rank i after and receives from i
  // before.
  int after(int i) const { return (rank() + i) % size(); }
  int before(int i) const { return (rank() + size() - i) % size(); }

  template <class F>
  void run(const Operation& operation, const F& work) {
    MUONP_ASSERT(!busy_.exchange(true), "two threads in the communicator of rank {}", rank());
    const struct Release {
      std::atomic<bool>& busy;
      ~Release() { busy = false; }
    } release{busy_};
    validate(operation, rank(), size());
    if (!why_.empty()) core::fail("{} after an earlier failure: {}", describe(operation), why_);
    channel_.operation = fmt::format("{} (operation {})", describe(operation), sequence_);
    channel_.tag = kRollCallTag + 1 + static_cast<int>(sequence_ % kTags);
    ++sequence_;
    try {
      work();
    } catch (const std::exception& e) {
      why_ = e.what();
      static_cast<void>(new std::vector<char>(std::move(staging_)));  // until the end of the process, as the caller's memory
      throw;
    }
  }

  MpiMessage slice(Span data, int of, int peer) const {
    const Cut c = cut(data.count, size(), of);
    const Span part = data.part(c.begin, c.count);
    return {peer, bytes_of(part), part.bytes()};
  }

  static void copy_to_self(Span to, Span from) {
    if (to.count != from.count || to.dtype != from.dtype)
      core::fail("exchange: a message of {} {} to this rank itself, where {} {} are expected", from.count,
                 name_of(from.dtype), to.count, name_of(to.dtype));
    if (to.count > 0 && to.data != from.data) std::memmove(to.data, from.data, static_cast<std::size_t>(to.bytes()));
  }

  // Every rank's `bytes` of data, from this rank's on: block i is that of the rank i after it. Until the next operation.
  const char* gather_copies(const void* mine, std::int64_t bytes) {
    staging_.resize(static_cast<std::size_t>(size() * bytes));
    if (bytes > 0) std::memcpy(staging_.data(), mine, static_cast<std::size_t>(bytes));
    gather_blocks(channel_, equal_blocks(size(), bytes), staging_.data());
    return staging_.data();
  }
  template <class T>
  std::vector<const T*> in_rank_order(const char* copies, std::int64_t bytes) const {
    std::vector<const T*> sources;
    for (int r = 0; r < size(); ++r) {
      const void* copy = copies + (r + size() - rank()) % size() * bytes;
      sources.push_back(static_cast<const T*>(copy));
    }
    return sources;
  }
  void reduce_copies(Span data, Reduce op) {
    const char* copies = gather_copies(data.data, data.bytes());
    reduce_in_order(in_rank_order<void>(copies, data.bytes()), data.data, data.count, data.dtype, op);
  }
  void gather_short(Span data) {
    const std::int64_t bytes = data.bytes() / size();
    if (bytes == 0) return;
    const char* copies = gather_copies(bytes_of(data) + rank() * bytes, bytes);
    for (int i = 1; i < size(); ++i)
      std::memcpy(bytes_of(data) + after(i) * bytes, copies + i * bytes, static_cast<std::size_t>(bytes));
  }

  // Every rank's slice to every other rank. `complete` has all slices already and receives none, or is −1.
  void gather(Span data, int complete) {
    std::vector<MpiMessage> sends, receives;
    for (int i = 1; i < size(); ++i) {
      if (after(i) != complete) sends.push_back(slice(data, rank(), after(i)));
      if (rank() != complete) receives.push_back(slice(data, before(i), before(i)));
    }
    transfer(channel_, sends, receives);
  }

  // This rank's slice becomes the reduction of everyone's. Chunk by chunk, every peer's part is received into
  // staging and all are combined in rank order; the next chunk is under way meanwhile.
  void reduce(Span data, Reduce op) {
    const std::int64_t element = core::size_of(data.dtype), peers = size() - 1;
    if (peers == 0) return;
    const std::int64_t chunk = mpi_reduction_bytes(size()) / element;
    const std::int64_t longest = cut(data.count, size(), 0).count;
    const std::int64_t rounds = (longest + chunk - 1) / chunk, staged_rounds = std::min<std::int64_t>(rounds, kInFlight);
    const Cut mine = cut(data.count, size(), rank());
    staging_.resize(static_cast<std::size_t>(std::min(chunk, longest) * element * peers * staged_rounds));

    MpiRequests even(channel_), odd(channel_);
    MpiRequests* const flight[kInFlight] = {&even, &odd};
    const auto finish = [&](std::int64_t round) {
      flight[round % kInFlight]->wait();
      const std::int64_t begin = round * chunk, n = std::clamp<std::int64_t>(mine.count - begin, 0, chunk);
      if (n > 0) combine(data.part(mine.begin + begin, n), round, op);
    };
    for (std::int64_t round = 0; round < rounds; ++round) {
      MpiRequests& requests = *flight[round % kInFlight];
      const std::int64_t begin = round * chunk, n = std::clamp<std::int64_t>(mine.count - begin, 0, chunk);
      for (int i = 1; i < size() && n > 0; ++i)
        requests.receive(staged(before(i), n * element, round), n * element, before(i));
      for (int i = 1; i < size(); ++i) {
        const MpiMessage m = slice(data, after(i), after(i)).part(begin * element, chunk * element);
        if (m.bytes > 0) requests.send(m.data, m.bytes, m.peer);
      }
      if (round > 0) finish(round - 1);
    }
    if (rounds > 0) finish(rounds - 1);
  }

  // Room for a message of `bytes` from `peer` in this round.
  char* staged(int peer, std::int64_t bytes, std::int64_t round) {
    const std::int64_t index = peer < rank() ? peer : peer - 1;
    return staging_.data() + (round % kInFlight) * std::ssize(staging_) / kInFlight + index * bytes;
  }

  void combine(Span to, std::int64_t round, Reduce op) {
    std::vector<const void*> sources;
    for (int r = 0; r < size(); ++r) sources.push_back(r == rank() ? to.data : staged(r, to.bytes(), round));
    reduce_in_order(sources, to.data, to.count, to.dtype, op);
  }

  const MpiSession& session_;
  MPI_Comm comm_;
  RollCall roll_call_;
  MpiChannel channel_;
  std::int64_t sequence_ = 0;
  std::vector<char> staging_;
  std::string why_;
  std::atomic<bool> busy_ = false;
};

}  // namespace

std::int64_t mpi_reduction_bytes(int size) {
  const std::int64_t room = kStagingBytes / (kInFlight * std::max(size - 1, 1));
  return std::clamp(room, kShortestReduction, kLongestReduction);
}

std::unique_ptr<Communicator> make_mpi(const MpiSession& session, double timeout_seconds) {
  MUONP_ASSERT(timeout_seconds > 0, "a time-out of {} s", timeout_seconds);
  return std::make_unique<Mpi>(session, timeout_seconds);
}

}  // namespace muonp::dist
