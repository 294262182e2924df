#include "dist/nccl/nccl.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <type_traits>

#include "core/device/cuda/moment.h"
#include "core/device/cuda/queue.h"
#include "dist/comm/agreement.h"
#include "dist/comm/operation.h"
#include "dist/nccl/library.h"
#include "dist/nccl/link.h"
#include "dist/nccl/watchdog.h"

namespace muonp::dist {

namespace {

ncclDataType_t type_of(core::Dtype dtype) {
  switch (dtype) {
    case core::Dtype::float32:
      return ncclFloat32;
    case core::Dtype::bfloat16:
      return ncclBfloat16;
    case core::Dtype::float16:
      return ncclFloat16;
    case core::Dtype::int32:
      return ncclInt32;
    case core::Dtype::uint8:
      return ncclUint8;
    case core::Dtype::tf32:
      break;
  }
  throw core::InternalError("an element type that NCCL is not told of");
}

ncclRedOp_t reduction_of(Reduce op) { return op == Reduce::sum ? ncclSum : op == Reduce::max ? ncclMax : ncclMin; }

std::size_t count_of(Span span) { return static_cast<std::size_t>(span.count); }

// What a rank sends itself: the k-th send with the k-th receive.
std::vector<std::pair<Span, Span>> own_messages(std::span<const Transfer> sends, std::span<const Transfer> receives,
                                                int rank) {
  std::vector<std::pair<Span, Span>> pairs;
  for (const Transfer& t : sends)
    if (t.peer == rank) pairs.push_back({t.span, {}});
  std::size_t k = 0;
  for (const Transfer& t : receives) {
    if (t.peer != rank) continue;
    const Span sent = pairs[k].first;
    if (sent.count != t.span.count || sent.dtype != t.span.dtype)
      core::fail("exchange: message {} of rank {} to itself is {} {}, where {} {} are expected", k, rank, sent.count,
                 name_of(sent.dtype), t.span.count, name_of(t.span.dtype));
    pairs[k++].second = t.span;
  }
  return pairs;
}

class Nccl final : public NcclCommunicator {
 public:
  Nccl(core::Device& device, Communicator& host, double timeout_seconds)
      : host_(host),
        device_(current_device()),
        queue_(core::cuda::stream_of(device.queue())),
        stream_(core::cuda::make_stream()),
        handed_over_(core::cuda::make_event()),
        link_(host, device.identity(), timeout_seconds),
        watchdog_(device_, timeout_seconds,
                  {.error = [this] { return link_.asynchronous_error(); },
                   .asked = [this] { return host_.roll_is_called(); },
                   .fail = [this](const NcclWatchdog::Report& report) { on_report(report); }}) {}

  ~Nccl() override {
    try {
      cudaSetDevice(device_);
      const bool orderly = std::uncaught_exceptions() == exceptions_ && failure().empty();
      if (orderly && watchdog_.drain()) link_.close();
    } catch (...) {
    }
    link_.abort();  // what was not closed
  }

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  std::string description() const override {
    int version = 0;
    ncclGetVersion(&version);
    return fmt::format("NCCL {}.{}.{} between GPUs, {} between hosts", version / 10000, version / 100 % 100, version % 100,
                       host_.description());
  }

  void broadcast(Span data, int root) override {
    validate(data);
    run({.kind = OperationKind::broadcast, .count = data.count, .dtype = data.dtype, .root = root}, "ncclBroadcast",
        [=, this](ncclComm_t comm) {
          return ncclBroadcast(data.data, data.data, count_of(data), type_of(data.dtype), root, comm, stream_.get());
        });
  }

  void all_reduce(Span data, Reduce op) override {
    validate(data);
    run({.kind = OperationKind::all_reduce, .count = data.count, .dtype = data.dtype, .reduce = op}, "ncclAllReduce",
        [=, this](ncclComm_t comm) {
          return ncclAllReduce(data.data, data.data, count_of(data), type_of(data.dtype), reduction_of(op), comm,
                               stream_.get());
        });
  }

  void reduce_scatter(Span data) override {
    validate(data);
    run({.kind = OperationKind::reduce_scatter, .count = data.count, .dtype = data.dtype}, "ncclReduceScatter",
        [=, this](ncclComm_t comm) {
          const Span mine = slice(data);
          return ncclReduceScatter(data.data, mine.data, count_of(mine), type_of(data.dtype), ncclSum, comm, stream_.get());
        });
  }

  void all_gather(Span data) override {
    validate(data);
    run({.kind = OperationKind::all_gather, .count = data.count, .dtype = data.dtype}, "ncclAllGather",
        [=, this](ncclComm_t comm) {
          const Span mine = slice(data);
          return ncclAllGather(mine.data, data.data, count_of(mine), type_of(data.dtype), comm, stream_.get());
        });
  }

  void exchange(std::span<const Transfer> sends, std::span<const Transfer> receives) override;

  void barrier() override {
    on_host([this] { host_.barrier(); });
  }
  void all_reduce(std::span<double> values, Reduce op) override {
    on_host([=, this] { host_.all_reduce(values, op); });
  }
  std::vector<std::string> all_gather_bytes(const std::string& mine) override {
    return on_host([&] { return host_.all_gather_bytes(mine); });
  }

  std::unique_ptr<core::TimePoint> now() override { return core::cuda::moment_of(stream_.get()); }

  void begin_overlap() override {
    MUONP_ASSERT(!overlaps_, "an overlap within another");
    overlaps_ = true;
  }
  Mark end_overlap() override {
    MUONP_ASSERT(overlaps_, "no begin_overlap() before end_overlap()");
    overlaps_ = false;
    return {watchdog_.last()};
  }
  void wait_for(Mark mark) override {
    throw_if_failed();
    watchdog_.make_wait(queue_, mark.number);
  }

  std::string abort(const std::string& why) noexcept override {
    try {
      return fail(why.empty() ? "aborted" : why);
    } catch (...) {  // out of memory: the others find out by their time-out
      return {};
    }
  }

 private:
  static int current_device() {
    int device = 0;
    MUONP_CUDA(cudaGetDevice(&device));
    return device;
  }
  Span slice(Span data) const {
    const std::int64_t each = data.count / size();
    return data.part(rank() * each, each);
  }

  // Nothing is called for no elements, which all ranks agree on.
  template <class F>
  void run(const Operation& operation, const char* name, const F& call) {
    validate(operation, rank(), size());
    throw_if_failed();
    if (operation.count > 0) submit(operation, [&] { link_.issue(name, call); });
  }
  template <class F>
  void submit(const Operation& operation, const F& work) {
    try {
      MUONP_CUDA(cudaSetDevice(device_));
      MUONP_CUDA(cudaEventRecord(handed_over_.get(), queue_));
      MUONP_CUDA(cudaStreamWaitEvent(stream_.get(), handed_over_.get()));
      watchdog_.begin(describe(operation), stream_.get());
      work();
      watchdog_.issued(stream_.get());
      if (!overlaps_) watchdog_.make_wait(queue_, watchdog_.last());
    } catch (const RemoteError& e) {
      const bool first = !host_.roll_is_called();  // not woken by the end of the job, for instance
      fail(with_missing(fmt::format("{}: {}", describe(operation), e.what()), "", first));
      throw_if_failed();
    } catch (const core::Error& e) {
      if (host_.roll_is_called()) host_.call_roll(false);  // a consequence of what another rank is about to say
      fail(fmt::format("{}: {}", describe(operation), e.what()));
      throw_if_failed();
    }
  }
  void copy_own(const std::vector<std::pair<Span, Span>>& pairs) const {
    for (const auto& [from, to] : pairs)
      if (from.count > 0 && from.data != to.data)
        MUONP_CUDA(cudaMemcpyAsync(to.data, from.data, static_cast<std::size_t>(from.bytes()), cudaMemcpyDeviceToDevice,
                                   stream_.get()));
  }

  // A rank that hears there of a failure must not finish NCCL in order: the one that failed will not.
  template <class F>
  std::invoke_result_t<F> on_host(const F& call) {
    throw_if_failed();
    try {
      return call();
    } catch (const std::exception& e) {
      end_nccl(e.what());
      throw;
    }
  }
  void end_nccl(const std::string& why) {
    {
      const std::lock_guard lock(failure_mutex_);
      if (failure_.empty()) failure_ = why;
    }
    link_.abort();
  }
  std::string failure() const {
    const std::lock_guard lock(failure_mutex_);
    return failure_;
  }
  void throw_if_failed() const {
    if (std::string why = failure(); !why.empty()) throw core::Error(why);
  }
  void on_report(const NcclWatchdog::Report& report) {
    const std::string what = fmt::format("{}: {}", core::cuda::context(), report.what);
    fail(report.of_here ? what : with_missing(what, report.guess, report.waited));
  }
  // Also where a rank is slow to end, and where it is woken to be ended: see call_roll().
  std::string with_missing(const std::string& what, const std::string& guess, bool waited) {
    const std::string missing = host_.call_roll(waited), why = missing.empty() ? guess : missing;
    return why.empty() ? what : fmt::format("{}: {}", what, why);
  }
  // The first failure counts, of all ranks; what follows are its consequences. Returns it.
  std::string fail(const std::string& why) {
    // Before NCCL ends, so that the others see this rather than that a rank has left.
    const std::string first = host_.abort(why);
    end_nccl(first.empty() ? why : first);
    return failure();
  }

  Communicator& host_;
  int device_;
  cudaStream_t queue_;
  const int exceptions_ = std::uncaught_exceptions();
  bool overlaps_ = false;
  mutable std::mutex failure_mutex_;
  std::string failure_;
  core::cuda::Stream stream_;
  core::cuda::Event handed_over_;  // recorded on the queue's stream before each operation
  NcclLink link_;
  NcclWatchdog watchdog_;
};

void Nccl::exchange(std::span<const Transfer> sends, std::span<const Transfer> receives) {
  const Operation operation{.kind = OperationKind::exchange, .sends = sends, .receives = receives};
  validate(operation, rank(), size());
  throw_if_failed();
  const auto own = own_messages(sends, receives, rank());
  const auto crosses = [this](const Transfer& t) { return t.peer != rank() && t.span.count > 0; };
  const bool any = std::ranges::any_of(sends, crosses) || std::ranges::any_of(receives, crosses);
  if (!any && own.empty()) return;
  const auto group = [&](ncclComm_t comm) {
    ncclResult_t result = ncclGroupStart();
    const auto keep = [&](ncclResult_t next) {
      if (result == ncclSuccess || result == ncclInProgress) result = next;
    };
    for (const Transfer& t : sends)
      if (crosses(t)) keep(ncclSend(t.span.data, count_of(t.span), type_of(t.span.dtype), t.peer, comm, stream_.get()));
    for (const Transfer& t : receives)
      if (crosses(t)) keep(ncclRecv(t.span.data, count_of(t.span), type_of(t.span.dtype), t.peer, comm, stream_.get()));
    keep(ncclGroupEnd());
    return result;
  };
  submit(operation, [&] {
    copy_own(own);
    if (any) link_.issue("ncclGroupEnd of sends and receives", group);
  });
}

}  // namespace

std::unique_ptr<NcclCommunicator> make_nccl(core::Device& device, Communicator& host, double timeout_seconds) {
  MUONP_ASSERT(device.kind() == core::DeviceKind::cuda, "NCCL joins GPUs; this is {}", device.name());
  run_on_all(host, [] {
    if (const std::string why = nccl_refusal(); !why.empty()) core::fail("{}; {}", why, kWithoutNccl);
  });
  return std::make_unique<Nccl>(device, host, timeout_seconds);
}

}  // namespace muonp::dist
