#include "dist/comm/local.h"

#include <atomic>
#include <cstring>

#include "dist/comm/operation.h"

namespace muonp::dist {

namespace {

class Local final : public Communicator {
 public:
  explicit Local(core::Device* device) : device_(device) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string description() const override { return "one rank"; }

  void barrier() override { check({}); }
  void broadcast(Span data, int root) override {
    check({.kind = OperationKind::broadcast, .count = data.count, .dtype = data.dtype, .root = root}, data);
  }
  void all_reduce(Span data, Reduce op) override {
    check({.kind = OperationKind::all_reduce, .count = data.count, .dtype = data.dtype, .reduce = op}, data);
  }
  void all_reduce(std::span<double>, Reduce) override { check({}); }
  void reduce_scatter(Span data) override { check({}, data); }
  void all_gather(Span data) override { check({}, data); }

  void exchange(std::span<const Transfer> sends, std::span<const Transfer> receives) override {
    const Operation operation{.kind = OperationKind::exchange, .sends = sends, .receives = receives};
    check(operation);
    if (const std::string why = mismatch({&operation, 1}); !why.empty()) throw core::Error(why);
    for (std::size_t i = 0; i < sends.size(); ++i)
      if (sends[i].span.count > 0) copy(receives[i].span.data, sends[i].span.data, sends[i].span.bytes());
  }
  std::vector<std::string> all_gather_bytes(const std::string& mine) override {
    check({});
    return {mine};
  }
  std::string abort(const std::string& why) noexcept override {
    try {
      if (!aborted_) why_ = why;
      aborted_ = true;
      return why_;
    } catch (...) {  // out of memory: aborted without a reason
      return {};
    }
  }

 private:
  void check(const Operation& operation, Span data = {}) const {
    validate(operation, 0, 1);
    validate(data);
    if (aborted_) core::fail("aborted: {}", why_);
  }
  void copy(void* to, const void* from, std::int64_t bytes) const {
    if (to == from) return;
    if (device_)
      device_->queue().copy(to, from, bytes);
    else
      std::memmove(to, from, static_cast<std::size_t>(bytes));
  }

  core::Device* device_;
  std::atomic<bool> aborted_ = false;  // by a watchdog, perhaps
  std::string why_;
};

}  // namespace

std::unique_ptr<Communicator> make_local(core::Device* device) { return std::make_unique<Local>(device); }

}  // namespace muonp::dist
