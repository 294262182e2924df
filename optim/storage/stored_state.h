// One state of a piece of a parameter, in the form in which it is kept (optim/storage/storage.h), and how rules compute on
// it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/device/offload.h"
#include "core/device/tensor.h"
#include "optim/storage/storage.h"

namespace muonp::optim {

class StoredState {
 public:
  StoredState() = default;
  // Zeros, of elements [first, first + count) of a flattened parameter. `name`: of the state, "<parameter>/momentum"; its
  // random numbers depend on it.
  StoredState(core::Device& device, const Storage& storage, std::string name, std::int64_t first, std::int64_t count,
              bool in_host_memory);

  const std::string& name() const { return name_; }
  const Storage& storage() const { return storage_; }
  bool narrow() const { return storage_.narrow(); }
  std::int64_t size() const { return values_.size(); }
  std::int64_t first() const { return first_; }  // number of its first element in the parameter
  std::int64_t bytes() const { return values_.bytes() + scales_.bytes(); }
  bool in_host_memory() const { return values_.in_host_memory(); }
  // Of a state that is not narrow: the float32 tensor.
  const core::Tensor& values() const;
  // A view of elements [begin, begin + count). Where it cuts a block, it is to be read only.
  StoredState part(std::int64_t begin, std::int64_t count) const;

  // Of a narrow state, on the device: to and from float32 [size()]. encode() rounds as storage() says, or, where the
  // values are some that decode() gave, to nearest, which gives them back.
  void decode(core::Queue& queue, const core::Tensor& to) const;
  void encode(core::Queue& queue, const core::Tensor& from, std::int64_t step) const;
  void encode_nearest(core::Queue& queue, const core::Tensor& from) const;

  // The same of any state, wherever it lies, to and from host memory, a piece at a time; waits for the queue.
  void read(core::Device& device, float* to) const;
  void write(core::Device& device, const float* from) const;

  // Itself on the device, or a copy there of what lies in host memory; and the copy's way back.
  StoredState on_device(core::Device& device) const;
  void take_back(core::Queue& queue, const StoredState& copy) const;

 private:
  void encode(core::Queue& queue, const core::Tensor& from, std::uint64_t step, bool stochastic) const;

  Storage storage_;
  std::string name_;
  std::int64_t first_ = 0;
  core::Tensor values_, scales_;  // [size]; [blocks] of int8
};

// An elementwise computation on float32 tensors and states, all of one size, that changes them: `compute` is given elements
// [begin, begin + count) of the tensors and then of the states, float32 on the device, piece by piece; once, with what
// there is, where nothing is narrow or in host memory. Then narrow states are encoded. What it takes on the device is
// state_workspace_bytes(), counted as Category::optimizer.
void compute_on_states(core::Device& device, const std::vector<core::Tensor>& tensors, std::span<const StoredState> states,
                       std::int64_t size, std::int64_t step, const core::PieceComputation& compute);

}  // namespace muonp::optim
