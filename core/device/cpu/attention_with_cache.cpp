#include <cstring>

#include "core/base/index.h"
#include "core/device/cpu/attention.h"
#include "core/device/cpu/attention_block.h"
#include "core/device/cpu/tasks.h"

namespace muonp::core::cpu {

namespace {

// Attention of some new positions over the cache of one sequence after the other. A task is a block of queries of one head;
// with one new position the queries of a group lie one behind the other, and are the rows of one.
template <class T>
class Cached {
 public:
  Cached(Device& device, const AttentionHeads& heads, const Tensor& qkv, const Tensor& keys, const Tensor& values,
         std::span<const std::int64_t> lengths, const Tensor& out)
      : queue_(device.queue()),
        heads_(heads),
        lengths_(lengths),
        added_(qkv.dim(1)),
        capacity_(keys.dim(1)),
        group_(added_ == 1 ? heads.group() : 1),
        qkv_(qkv),
        keys_(keys),
        values_(values),
        out_(out),
        room_{std::max(group_, std::min(kQueryBlock, added_)), longest()},
        memory_(scratch_for(device, (1 + kWeightFloats<T>)*room_.floats())) {}

  // The new keys and values of a sequence to the cache. What is behind them is multiplied by weights of 0, so that no value
  // there may be infinite or NaN.
  void write(std::int64_t b) const {
    const std::int64_t width = heads_.key_width(), length = lengths_[at(b)], end = length + added_;
    T *keys = keys_.data<T>() + b * capacity_ * width, *values = values_.data<T>() + b * capacity_ * width;
    for (std::int64_t t = 0; t < added_; ++t) {
      const T* from = qkv_.data<T>() + (b * added_ + t) * heads_.width() + heads_.query_width();
      std::memcpy(keys + (length + t) * width, from, at(width) * sizeof(T));
      std::memcpy(values + (length + t) * width, from + width, at(width) * sizeof(T));
    }
    std::fill(values + end * width, values + end_of_tile(end) * width, T(0.0f));
  }

  void run() const {
    const std::int64_t heads = heads_.queries / group_, blocks = (added_ + kQueryBlock - 1) / kQueryBlock;
    run_tasks_on_threads(queue_, std::ssize(lengths_) * heads * blocks, [&](std::int64_t task, int thread) {
      const std::int64_t head = task / blocks, block = blocks - 1 - task % blocks;
      attend_block(head / heads, head % heads, block * kQueryBlock, part_of(memory_, thread));
    });
  }

 private:
  std::int64_t end_of_tile(std::int64_t end) const { return std::min(capacity_, round_down_to_tile(end + kKeyTile - 1)); }
  std::int64_t longest() const {
    std::int64_t longest = 0;
    for (const std::int64_t length : lengths_) longest = std::max(longest, end_of_tile(length + added_));
    return longest;
  }

  // New positions from `first` on of group `g` of query heads.
  void attend_block(std::int64_t b, std::int64_t g, std::int64_t first, float* scratch) const {
    const std::int64_t size = heads_.size, count = std::min(kQueryBlock, added_ - first), head = g * group_;
    const std::int64_t position = lengths_[at(b)] + first;
    const AttentionShape shape{1, capacity_, heads_};
    const std::int64_t low = round_down_to_tile(shape.window_begin(position)), end = end_of_tile(position + count);
    const auto rows = [&](const Tensor& t) {  // [count, size], or [group, size] of one position
      const MatrixView all(t);
      const MatrixView view = all.block(b * added_ + first, head * size, count, size);
      return added_ == 1 ? MatrixView(view.data, group_, size, size, view.dtype) : view;
    };
    const auto cached = [&](const Tensor& t) {
      return MatrixView(t).block(b * capacity_ + low, head / heads_.group() * size, end - low, size);
    };
    attend<T>(
        queue_, rows(qkv_), cached(keys_), cached(values_), rows(out_), scale_of(heads_), room_, scratch,
        [&](std::int64_t i) {
          const std::int64_t query = position + (added_ == 1 ? 0 : i);
          return Seen{shape.window_begin(query) - low, query + 1 - low};
        },
        [](std::int64_t, const RowFigures&) {});
  }

  Queue& queue_;
  const AttentionHeads& heads_;
  std::span<const std::int64_t> lengths_;
  std::int64_t added_, capacity_, group_;  // group_: query heads that a task takes
  const Tensor &qkv_, &keys_, &values_, &out_;
  ScoreRoom room_;
  Tensor memory_;
};

}  // namespace

void attention_with_cache(Device& device, const AttentionHeads& heads, const Tensor& qkv, const Tensor& keys,
                          const Tensor& values, std::span<const std::int64_t> lengths, const Tensor& out) {
  with_float_type(qkv.dtype(), [&]<class T>(T) {
    const Cached<T> cached(device, heads, qkv, keys, values, lengths, out);
    run_tasks(device.queue(), std::ssize(lengths), [&](std::int64_t b) { cached.write(b); });
    cached.run();
  });
}

}  // namespace muonp::core::cpu
