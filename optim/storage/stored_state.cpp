#include "optim/storage/stored_state.h"

#include <algorithm>
#include <cstring>

#include "core/base/hash.h"
#include "core/device/host_view.h"
#include "optim/storage/codec.h"

namespace muonp::optim {

using core::Category;
using core::Dtype;
using core::Tensor;

namespace {

Dtype dtype_of(const Storage& storage) {
  if (!storage.narrow()) return Dtype::float32;
  return storage.dtype == StateDtype::bfloat16 ? Dtype::bfloat16 : Dtype::uint8;
}

Tensor to_device(core::Device& device, const Tensor& t) {
  if (!t || !t.in_host_memory()) return t;
  const Tensor copy = Tensor::empty(device, t.shape(), t.dtype(), Category::optimizer);
  device.queue().write(copy.raw(), t.raw(), t.bytes());
  return copy;
}

void to_home(core::Queue& queue, const Tensor& home, const Tensor& copy) {
  if (home && home.in_host_memory()) queue.read(home.raw(), copy.raw(), home.bytes());
}

}  // namespace

StoredState::StoredState(core::Device& device, const Storage& storage, std::string name, std::int64_t first,
                         std::int64_t count, bool in_host_memory)
    : storage_(storage), name_(std::move(name)), first_(first) {
  values_ = core::zeros_in(in_host_memory, device, {count}, dtype_of(storage), Category::optimizer);
  if (dtype_of(storage) == Dtype::uint8)
    scales_ = core::zeros_in(in_host_memory, device, {state_blocks(first, count)}, Dtype::float32, Category::optimizer);
}

const Tensor& StoredState::values() const {
  MUONP_ASSERT(!narrow(), "a state that is kept as {} is read as float32", core::name_of(values_.dtype()));
  return values_;
}

StoredState StoredState::part(std::int64_t begin, std::int64_t count) const {
  StoredState result = *this;
  result.first_ = first_ + begin;
  result.values_ = values_.flat(begin, count);
  if (scales_)
    result.scales_ = scales_.flat(count == 0 ? 0 : result.first_ / kStateBlock - first_ / kStateBlock,
                                  state_blocks(result.first_, count));
  return result;
}

void StoredState::decode(core::Queue& queue, const Tensor& to) const {
  if (scales_) return decode_int8(queue, values_, scales_, storage_.content, first_, to);
  decode_bfloat16(queue, values_, to);
}

void StoredState::encode(core::Queue& queue, const Tensor& from, std::uint64_t step, bool stochastic) const {
  const RoundingKey key{core::hash_bytes(name_.data(), std::ssize(name_)), step, stochastic};
  if (scales_) return encode_int8(queue, from, storage_.content, first_, key, values_, scales_);
  encode_bfloat16(queue, from, first_, key, values_);
}

void StoredState::encode(core::Queue& queue, const Tensor& from, std::int64_t step) const {
  encode(queue, from, static_cast<std::uint64_t>(step), storage_.stochastic);
}

void StoredState::encode_nearest(core::Queue& queue, const Tensor& from) const { encode(queue, from, 0, false); }

StoredState StoredState::on_device(core::Device& device) const {
  StoredState result = *this;
  result.values_ = to_device(device, values_);
  result.scales_ = to_device(device, scales_);
  return result;
}

void StoredState::take_back(core::Queue& queue, const StoredState& copy) const {
  to_home(queue, values_, copy.values_);
  to_home(queue, scales_, copy.scales_);
}

void StoredState::read(core::Device& device, float* to) const {
  if (!narrow()) return core::read_tensor(device.queue(), values_, to);
  for (std::int64_t begin = 0, end = 0; begin < size(); begin = end) {
    end = state_piece_end(first_, size(), begin);
    const Tensor floats = Tensor::empty(device, {end - begin}, Dtype::float32, Category::optimizer);
    part(begin, end - begin).on_device(device).decode(device.queue(), floats);
    device.queue().read(to + begin, floats.raw(), floats.bytes());
  }
}

void StoredState::write(core::Device& device, const float* from) const {
  core::Queue& queue = device.queue();
  if (!narrow()) {
    const core::HostView host(queue, values_, core::Access::write);
    std::copy_n(from, size(), host.data<float>());
    return host.upload();
  }
  for (std::int64_t begin = 0, end = 0; begin < size(); begin = end) {
    end = state_piece_end(first_, size(), begin);
    const Tensor floats = Tensor::empty(device, {end - begin}, Dtype::float32, Category::optimizer);
    queue.write(floats.raw(), from + begin, floats.bytes());
    const StoredState home = part(begin, end - begin), near = home.on_device(device);
    near.encode_nearest(queue, floats);
    home.take_back(queue, near);
  }
}

namespace {

// One piece of everything, as float32 on the device, and back.
class Piece {
 public:
  Piece(core::Device& device, const std::vector<Tensor>& tensors, std::span<const StoredState> states, std::int64_t begin,
        std::int64_t count)
      : queue_(device.queue()) {
    for (const Tensor& t : tensors) bring(device, t.flat(begin, count));
    for (const StoredState& s : states) {
      if (!s.narrow()) {
        bring(device, s.values().flat(begin, count));
        continue;
      }
      homes_.push_back(s.part(begin, count));
      narrow_.push_back({homes_.back().on_device(device), floats_.size()});
      floats_.push_back(Tensor::empty(device, {count}, Dtype::float32, Category::optimizer));
      narrow_.back().state.decode(queue_, floats_.back());
    }
  }
  std::span<const Tensor> floats() const { return floats_; }
  void give_back(std::int64_t step) const {
    for (std::size_t n = 0; n < narrow_.size(); ++n) {
      narrow_[n].state.encode(queue_, floats_[narrow_[n].place], step);
      homes_[n].take_back(queue_, narrow_[n].state);
    }
    for (const auto& [home, place] : brought_) to_home(queue_, home, floats_[place]);
  }

 private:
  struct Narrow {
    StoredState state;  // on the device
    std::size_t place;  // of its float32 among floats_
  };
  void bring(core::Device& device, const Tensor& t) {
    brought_.emplace_back(t, floats_.size());
    floats_.push_back(to_device(device, t));
  }

  core::Queue& queue_;
  std::vector<Tensor> floats_;
  std::vector<Narrow> narrow_;
  std::vector<StoredState> homes_;  // of narrow_
  std::vector<std::pair<Tensor, std::size_t>> brought_;
};

}  // namespace

void compute_on_states(core::Device& device, const std::vector<Tensor>& tensors, std::span<const StoredState> states,
                       std::int64_t size, std::int64_t step, const core::PieceComputation& compute) {
  if (std::ranges::none_of(states, &StoredState::narrow)) {
    std::vector<Tensor> all = tensors;
    for (const StoredState& s : states) all.push_back(s.values());
    if (all.empty()) return compute(0, size, {});
    return core::compute_in_pieces(device, all, core::Pieces::changed, compute);
  }
  const std::int64_t first = states.front().first();
  for (std::int64_t begin = 0, end = 0; begin < size; begin = end) {
    end = state_piece_end(first, size, begin);
    const Piece piece(device, tensors, states, begin, end - begin);
    compute(begin, end - begin, piece.floats());
    piece.give_back(step);
  }
}

}  // namespace muonp::optim
