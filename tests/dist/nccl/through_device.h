// A communicator between GPUs as the checks of all communicators want it: on host memory.
#pragma once

#include "core/device/tensor.h"
#include "dist/comm/communicator.h"
#include "dist/comm/operation.h"

namespace muonp::test {

// Host memory in, host memory out, through the GPU.
class ThroughDevice final : public dist::Communicator {
 public:
  ThroughDevice(dist::Communicator& inner, core::Device& device) : inner_(inner), device_(device) {}
  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  std::string description() const override { return inner_.description(); }
  void barrier() override { inner_.barrier(); }
  void broadcast(dist::Span data, int root) override {
    const core::Tensor t = up(data);
    inner_.broadcast(on_device(t, data), root);
    down(t, data);
  }
  void all_reduce(dist::Span data, dist::Reduce op) override {
    const core::Tensor t = up(data);
    inner_.all_reduce(on_device(t, data), op);
    down(t, data);
  }
  void all_reduce(std::span<double> values, dist::Reduce op) override { inner_.all_reduce(values, op); }
  void reduce_scatter(dist::Span data) override {
    const core::Tensor t = up(data);
    inner_.reduce_scatter(on_device(t, data));
    down(t, data);
  }
  void all_gather(dist::Span data) override {
    const core::Tensor t = up(data);
    inner_.all_gather(on_device(t, data));
    down(t, data);
  }
  void exchange(std::span<const dist::Transfer> sends, std::span<const dist::Transfer> receives) override {
    std::vector<core::Tensor> out, in;
    std::vector<dist::Transfer> device_sends, device_receives;
    for (const dist::Transfer& s : sends) {
      out.push_back(up(s.span));
      device_sends.push_back({s.peer, on_device(out.back(), s.span)});
    }
    for (const dist::Transfer& r : receives) {
      in.push_back(empty(r.span));
      device_receives.push_back({r.peer, on_device(in.back(), r.span)});
    }
    inner_.exchange(device_sends, device_receives);
    for (std::size_t i = 0; i < in.size(); ++i) down(in[i], receives[i].span);
  }
  std::vector<std::string> all_gather_bytes(const std::string& mine) override { return inner_.all_gather_bytes(mine); }
  std::string abort(const std::string& why) noexcept override { return inner_.abort(why); }

 private:
  core::Tensor empty(dist::Span data) {
    return core::Tensor::empty(device_, {data.count}, data.dtype, core::Category::other);
  }
  core::Tensor up(dist::Span data) {
    dist::validate(data);
    core::Tensor t = empty(data);
    if (data.count > 0) device_.queue().write(t.raw(), data.data, data.bytes());
    return t;
  }
  static dist::Span on_device(const core::Tensor& t, dist::Span data) { return {t.raw(), data.count, data.dtype}; }
  void down(const core::Tensor& t, dist::Span data) {
    if (data.count > 0) device_.queue().read(data.data, t.raw(), data.bytes());
  }
  dist::Communicator& inner_;
  core::Device& device_;
};

}  // namespace muonp::test
