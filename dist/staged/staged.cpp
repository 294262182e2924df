#include "dist/staged/staged.h"

#include <utility>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/device/copy_queue.h"
#include "core/device/tensor.h"
#include "dist/comm/async.h"
#include "dist/comm/operation.h"

namespace muonp::dist {

namespace {

std::vector<Transfer> copy_of(std::span<const Transfer> transfers) { return {transfers.begin(), transfers.end()}; }

// Parts begin at whole elements of any type.
std::int64_t padded(std::int64_t bytes) { return (bytes + 15) / 16 * 16; }

std::int64_t bytes_of(std::span<const Transfer> transfers) {
  std::int64_t sum = 0;
  for (const Transfer& t : transfers) sum += padded(t.span.bytes());
  return sum;
}

class Staged final : public Communicator {
 public:
  Staged(core::Device& device, Communicator& host)
      : device_(device), host_(host), copies_(core::make_copy_queue(device)), worker_(AsyncQueue::Mode::worker) {}

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  std::string description() const override { return host_.description() + ", GPUs through pinned host memory"; }

  void barrier() override {
    on_host([this] { host_.barrier(); });
  }

  void broadcast(Span data, int root) override {
    validate(data);
    run({.kind = OperationKind::broadcast, .count = data.count, .dtype = data.dtype, .root = root}, [=, this] {
      const Span staged = stage(data);
      if (rank() == root) read(staged, data);
      host_.broadcast(staged, root);
      if (rank() != root) write(data, staged);
    });
  }

  void all_reduce(Span data, Reduce op) override {
    validate(data);
    run({.kind = OperationKind::all_reduce, .count = data.count, .dtype = data.dtype, .reduce = op}, [=, this] {
      const Span staged = stage(data);
      read(staged, data);
      host_.all_reduce(staged, op);
      write(data, staged);
    });
  }

  void all_reduce(std::span<double> values, Reduce op) override {
    on_host([=, this] { host_.all_reduce(values, op); });
  }

  void reduce_scatter(Span data) override {
    validate(data);
    run({.kind = OperationKind::reduce_scatter, .count = data.count, .dtype = data.dtype}, [=, this] {
      const Span staged = stage(data);
      read(staged, data);
      host_.reduce_scatter(staged);
      write(slice(data, rank()), slice(staged, rank()));
    });
  }

  void all_gather(Span data) override {
    validate(data);
    run({.kind = OperationKind::all_gather, .count = data.count, .dtype = data.dtype}, [=, this] {
      const Span staged = stage(data);
      read(slice(staged, rank()), slice(data, rank()));
      host_.all_gather(staged);
      for (int r = 0; r < size(); ++r)
        if (r != rank()) write(slice(data, r), slice(staged, r));
    });
  }

  void exchange(std::span<const Transfer> sends, std::span<const Transfer> receives) override {
    run({.kind = OperationKind::exchange, .sends = sends, .receives = receives},
        [this, out = copy_of(sends), in = copy_of(receives)] {
          reserve(bytes_of(out) + bytes_of(in));
          std::int64_t used = 0;
          const std::vector<Transfer> staged_out = stage(out, used), staged_in = stage(in, used);
          for (std::size_t i = 0; i < out.size(); ++i)
            copies_->read(staged_out[i].span.data, out[i].span.data, out[i].span.bytes());
          copies_->synchronize();
          host_.exchange(staged_out, staged_in);
          for (std::size_t i = 0; i < in.size(); ++i) write(in[i].span, staged_in[i].span);
        });
  }

  std::vector<std::string> all_gather_bytes(const std::string& mine) override {
    std::vector<std::string> all;
    on_host([&] { all = host_.all_gather_bytes(mine); });
    return all;
  }

  void begin_overlap() override {
    MUONP_ASSERT(!overlaps_, "an overlap within another");
    overlaps_ = true;
  }
  Mark end_overlap() override {
    MUONP_ASSERT(overlaps_, "no begin_overlap() before end_overlap()");
    overlaps_ = false;
    return {last_.number};
  }
  void wait_for(Mark mark) override { worker_.wait({mark.number}); }

  std::string abort(const std::string& why) noexcept override { return host_.abort(why); }
  bool roll_is_called() override { return host_.roll_is_called(); }
  std::string call_roll(bool waited) override { return host_.call_roll(waited); }

 private:
  // What is wrong with a call is the caller's to hear, before anything starts.
  template <class Work>
  void run(const Operation& operation, Work work) {
    validate(operation, rank(), size());
    last_ = worker_.submit([this, moment = copies_->moment(), work = std::move(work)] {
      copies_->start_after(moment);
      work();
      copies_->synchronize();
    });
    if (!overlaps_) worker_.wait(last_);
  }
  // Memory of the caller's, which is there while it waits.
  template <class Work>
  void on_host(const Work& work) {
    last_ = worker_.submit([&] { work(); });
    worker_.wait(last_);
  }

  // ---- by the worker ----

  void reserve(std::int64_t bytes) {
    if (staging_ && staging_.bytes() >= bytes) return;
    staging_ = core::Tensor();
    staging_ = core::Tensor::staging(device_, {bytes}, core::Dtype::uint8, core::Category::exchange);
  }
  Span stage(Span data) {
    reserve(data.bytes());
    return {staging_.raw(), data.count, data.dtype};
  }
  std::vector<Transfer> stage(const std::vector<Transfer>& transfers, std::int64_t& used) const {
    std::vector<Transfer> staged;
    for (const Transfer& t : transfers) {
      staged.push_back({t.peer, {static_cast<char*>(staging_.raw()) + used, t.span.count, t.span.dtype}});
      used += padded(t.span.bytes());
    }
    return staged;
  }
  Span slice(Span data, int of) const {
    const Cut c = cut(data.count, size(), of);
    return data.part(c.begin, c.count);
  }
  void read(Span host, Span from) {
    copies_->read(host.data, from.data, from.bytes());
    copies_->synchronize();
  }
  void write(Span to, Span host) { copies_->write(to.data, host.data, to.bytes()); }

  core::Device& device_;
  Communicator& host_;
  std::unique_ptr<core::CopyQueue> copies_;
  core::Tensor staging_;
  bool overlaps_ = false;
  AsyncQueue::Ticket last_;
  AsyncQueue worker_;  // its work uses the above
};

}  // namespace

std::unique_ptr<Communicator> make_staged(core::Device& device, Communicator& host) {
  return std::make_unique<Staged>(device, host);
}

}  // namespace muonp::dist
