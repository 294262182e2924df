#include "core/device/cpu/attention.h"

#include <omp.h>

#include "core/device/cpu/attention_block.h"
#include "core/device/cpu/tasks.h"

namespace muonp::core::cpu {

namespace {

// Queries, keys and values within a packed tensor: of query head h, and of the key head that it reads.
struct Head {
  MatrixView q, k, v;
  Head(const AttentionShape& s, const Tensor& qkv, std::int64_t b, std::int64_t h) {
    const AttentionHeads& heads = s.heads;
    const MatrixView all(qkv);
    const std::int64_t key = heads.query_width() + h / heads.group() * heads.size;
    q = all.block(b * s.time, h * heads.size, s.time, heads.size);
    k = all.block(b * s.time, key, s.time, heads.size);
    v = all.block(b * s.time, key + heads.key_width(), s.time, heads.size);
  }
};

// One query head within a tensor [batch, time, query_width()].
MatrixView head_of(const AttentionShape& s, const Tensor& t, std::int64_t b, std::int64_t h) {
  return MatrixView(t).block(b * s.time, h * s.heads.size, s.time, s.heads.size);
}

// Which keys the queries of one sequence see.
class Mask {
 public:
  Mask(const AttentionShape& s, const Tensor& begins, std::int64_t b)
      : shape_(s), begins_(begins ? begins.data<std::int32_t>() + b * s.time : nullptr) {}
  std::int64_t begin(std::int64_t query) const {
    const std::int64_t window = shape_.window_begin(query);
    return begins_ ? std::max<std::int64_t>(window, begins_[query]) : window;
  }

 private:
  const AttentionShape& shape_;
  const std::int32_t* begins_;
};

// Queries [first, first + rows), and the keys [low, low + keys) that hold all that one of them sees.
struct Block {
  std::int64_t first, rows, low, keys;
  Block(const AttentionShape& s, const Mask& mask, std::int64_t first_)
      : first(first_),
        rows(std::min(kQueryBlock, s.time - first)),
        low(round_down_to_tile(mask.begin(first))),
        keys(first + rows - low) {}
  MatrixView of_queries(const MatrixView& head) const { return head.block(first, 0, rows, head.cols); }
  MatrixView of_keys(const MatrixView& head) const { return head.block(low, 0, keys, head.cols); }
  // Of row i, counted from `low`.
  Seen seen(const Mask& mask, std::int64_t i) const { return {mask.begin(first + i) - low, first + i + 1 - low}; }
};

// For a block of queries and the most keys that it is multiplied with.
ScoreRoom room_of(const AttentionShape& s) {
  const std::int64_t in_window = s.heads.window + kQueryBlock + kKeyTile;
  return {kQueryBlock, s.heads.window == 0 ? s.time : std::min(s.time, in_window)};
}

template <class T>
void forward_block(Queue& queue, const AttentionShape& s, const Head& head, const MatrixView& out, const Mask& mask,
                   std::int64_t first, float* scratch, float* logsumexp, float* maxima) {
  const Block block(s, mask, first);
  attend<T>(
      queue, block.of_queries(head.q), block.of_keys(head.k), block.of_keys(head.v), block.of_queries(out),
      scale_of(s.heads), room_of(s), scratch, [&](std::int64_t i) { return block.seen(mask, i); },
      [&](std::int64_t i, const RowFigures& row) {
        logsumexp[first + i] = row.logsumexp;
        if (maxima != nullptr) maxima[first + i] = row.highest;
      });
}

// Of a key head: [time, size] each, float32.
std::int64_t key_floats(const AttentionShape& s) { return s.time * s.heads.size; }
struct KeyGradients {
  float *dk, *dv;
  KeyGradients(const AttentionShape& s, float* memory) : dk(memory), dv(memory + key_floats(s)) {}
};

// Per thread: scores and their gradients (and both again in T), and where every query head has a key head, the gradients of
// that one.
template <class T>
std::int64_t score_floats(const AttentionShape& s) {
  return (2 + 2 * kWeightFloats<T>)*room_of(s).floats();
}
template <class T>
std::int64_t backward_floats(const AttentionShape& s) {
  return score_floats<T>(s) + (s.heads.group() == 1 ? 2 * key_floats(s) : 0);
}

template <class T>
struct BackwardScratch {
  float *scores, *dscores;
  T *weights, *dweights;
  BackwardScratch(const AttentionShape& s, float* memory) {
    const std::int64_t n = room_of(s).floats(), pair = (1 + kWeightFloats<T>)*n;
    scores = memory;
    weights = weights_of<T>(scores, n);
    dscores = memory + pair;
    dweights = weights_of<T>(dscores, n);
  }
};

// A row of P and dS, whose parts before and after the keys that are seen are 0.
template <class T>
void gradient_row(const Seen& seen, std::int64_t keys, const float* p, const float* dp, T* w, T* dw, float scale,
                  float normaliser, float delta) {
  for (std::int64_t j = 0; j < seen.begin; ++j) w[j] = dw[j] = T(0.0f);
  for (std::int64_t j = seen.end; j < keys; ++j) w[j] = dw[j] = T(0.0f);
  p += seen.begin, dp += seen.begin, w += seen.begin, dw += seen.begin;
  Row{0, seen.end - seen.begin}.each([=](std::int64_t j) {
    const float weight = math::exp(scale * p[j] - normaliser);
    const float slope = weight * (dp[j] - delta) * scale;
    w[j] = T(weight);
    dw[j] = T(slope);
  });
}

// With P the weights, O the output row, D = dO·O: dS = P∘(dO·Vᵀ − D)·scale; dQ = dS·K, dK = dSᵀ·Q, dV =
// Pᵀ·dO.
template <class T>
void backward_rows(const AttentionShape& s, const BackwardScratch<T>& scratch, const MatrixView& out, const MatrixView& dout,
                   const Block& block, const Mask& mask, const float* logsumexp) {
  const std::int64_t stride = room_of(s).stride();
  for (std::int64_t i = 0; i < block.rows; ++i) {
    const T* o = static_cast<const T*>(out.data) + (block.first + i) * out.stride;
    const T* d = static_cast<const T*>(dout.data) + (block.first + i) * dout.stride;
    const float delta = Row{0, s.heads.size}.sum([=](std::int64_t c) { return float(o[c]) * float(d[c]); });
    const std::int64_t row = i * stride;
    gradient_row(block.seen(mask, i), block.keys, scratch.scores + row, scratch.dscores + row, scratch.weights + row,
                 scratch.dweights + row, scale_of(s.heads), logsumexp[block.first + i], delta);
  }
}

template <class T>
void backward_block(Queue& queue, const AttentionShape& s, const Head& head, const MatrixView& out, const MatrixView& dout,
                    const MatrixView& dq, const BackwardScratch<T>& scratch, const KeyGradients& sums, const Mask& mask,
                    std::int64_t first, const float* logsumexp) {
  const Block block(s, mask, first);
  const std::int64_t rows = block.rows, keys = block.keys, stride = room_of(s).stride(), d = s.heads.size;
  const MatrixView q = block.of_queries(head.q), k = block.of_keys(head.k), v = block.of_keys(head.v);
  const MatrixView dout_rows = block.of_queries(dout);
  gemm(queue, Op::none, Op::transpose, 1, q, k, 0, MatrixView(scratch.scores, rows, keys, stride));
  gemm(queue, Op::none, Op::transpose, 1, dout_rows, v, 0, MatrixView(scratch.dscores, rows, keys, stride));
  backward_rows<T>(s, scratch, out, dout, block, mask, logsumexp);
  const MatrixView weights(scratch.weights, rows, keys, stride, dtype_of<T>);
  const MatrixView dweights(scratch.dweights, rows, keys, stride, dtype_of<T>);
  gemm(queue, Op::none, Op::none, 1, dweights, k, 0, block.of_queries(dq));
  gemm(queue, Op::transpose, Op::none, 1, weights, dout_rows, 1, MatrixView(sums.dv + block.low * d, keys, d, d));
  gemm(queue, Op::transpose, Op::none, 1, dweights, q, 1, MatrixView(sums.dk + block.low * d, keys, d, d));
}

// The sum of `count` arrays of to.rows · to.cols floats that lie `apart` floats apart.
template <class T>
void store_sum(const float* from, std::int64_t count, std::int64_t apart, const MatrixView& to) {
  for (std::int64_t r = 0; r < to.rows; ++r) {
    T* out = static_cast<T*>(to.data) + r * to.stride;
    const float* in = from + r * to.cols;
    Row{0, to.cols}.each([=](std::int64_t c) {
      float total = in[c];
      for (std::int64_t i = 1; i < count; ++i) total += in[i * apart + c];
      out[c] = T(total);
    });
  }
}

template <class T>
class Backward {
 public:
  Backward(Device& device, const AttentionShape& s, const Tensor& qkv, const Tensor& begins, const Tensor& out,
           const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv)
      : queue_(device.queue()),
        s_(s),
        qkv_(qkv),
        begins_(begins),
        out_(out),
        logsumexp_(logsumexp),
        dout_(dout),
        dqkv_(dqkv),
        memory_(scratch_for(device, backward_floats<T>(s))) {}

  // Every query head has a key head: a task is a head.
  void by_heads() const {
    run_tasks_on_threads(queue_, s_.query_heads(), [this](std::int64_t head, int thread) {
      float* memory = part_of(memory_, thread);
      const KeyGradients sums(s_, memory + score_floats<T>(s_));
      query_head(head, memory, sums);
      store(head, sums.dk, 1);
    });
  }

  // Query heads share key heads: those of some sequences at a time have gradients of keys of their own, which are added.
  // sums: [sequences, query heads, 2, time, size].
  void by_groups(const Tensor& sums, std::int64_t sequences) const {
    const std::int64_t queries = s_.heads.queries, keys = s_.heads.keys, floats = 2 * key_floats(s_);
    for (std::int64_t b = 0; b < s_.batch; b += sequences) {
      const std::int64_t count = std::min(sequences, s_.batch - b);
      float* first = sums.data<float>();
      run_tasks_on_threads(queue_, count * queries, [&](std::int64_t i, int thread) {
        query_head(b * queries + i, part_of(memory_, thread), KeyGradients(s_, first + i * floats));
      });
      run_tasks(queue_, count * keys,
                [&](std::int64_t i) { store(b * keys + i, first + i * s_.heads.group() * floats, s_.heads.group()); });
    }
  }

 private:
  void query_head(std::int64_t head, float* memory, const KeyGradients& sums) const {
    const std::int64_t b = head / s_.heads.queries, h = head % s_.heads.queries;
    const BackwardScratch<T> scratch(s_, memory);
    const Head in(s_, qkv_, b, h);
    const MatrixView dq = Head(s_, dqkv_, b, h).q, out = head_of(s_, out_, b, h), dout = head_of(s_, dout_, b, h);
    const Mask mask(s_, begins_, b);
    const float* logsumexp = logsumexp_.data<float>() + head * s_.time;
    std::fill_n(sums.dk, 2 * key_floats(s_), 0.0f);  // dk and dv
    for (std::int64_t first = 0; first < s_.time; first += kQueryBlock)
      backward_block<T>(queue_, s_, in, out, dout, dq, scratch, sums, mask, first, logsumexp);
  }

  // Of a key head, from the sums of its query heads.
  void store(std::int64_t key_head, const float* sums, std::int64_t count) const {
    const std::int64_t b = key_head / s_.heads.keys, h = key_head % s_.heads.keys * s_.heads.group();
    const Head gradient(s_, dqkv_, b, h);
    store_sum<T>(sums, count, 2 * key_floats(s_), gradient.k);
    store_sum<T>(sums + key_floats(s_), count, 2 * key_floats(s_), gradient.v);
  }

  Queue& queue_;
  const AttentionShape& s_;
  const Tensor &qkv_, &begins_, &out_, &logsumexp_, &dout_, &dqkv_;
  Tensor memory_;
};

// Sequences whose query heads have gradients of keys at a time: so many that threads seldom wait for the last of them.
std::int64_t sequences_at_a_time(const AttentionShape& s, int threads) {
  constexpr std::int64_t kTasksPerThread = 8;
  return std::min(s.batch, (kTasksPerThread * threads + s.heads.queries - 1) / s.heads.queries);
}

}  // namespace

void attention_forward(Device& device, const AttentionShape& s, const Tensor& qkv, const Tensor& begins, const Tensor& out,
                       const Tensor& logsumexp, const Tensor& maxima) {
  with_float_type(qkv.dtype(), [&]<class T>(T) {
    const std::int64_t blocks = (s.time + kQueryBlock - 1) / kQueryBlock, queries = s.heads.queries;
    const Tensor memory = scratch_for(device, (1 + kWeightFloats<T>)*room_of(s).floats());
    run_tasks_on_threads(device.queue(), s.query_heads() * blocks, [&](std::int64_t task, int thread) {
      const std::int64_t head = task / blocks, b = head / queries, h = head % queries;
      const std::int64_t block = blocks - 1 - task % blocks;  // the longest of a head first
      forward_block<T>(device.queue(), s, Head(s, qkv, b, h), head_of(s, out, b, h), Mask(s, begins, b), block * kQueryBlock,
                       part_of(memory, thread), logsumexp.data<float>() + head * s.time,
                       maxima ? maxima.data<float>() + head * s.time : nullptr);
    });
  });
}

void attention_backward(Device& device, const AttentionShape& s, const Tensor& qkv, const Tensor& begins, const Tensor& out,
                        const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv) {
  with_float_type(qkv.dtype(), [&]<class T>(T) {
    const Backward<T> backward(device, s, qkv, begins, out, logsumexp, dout, dqkv);
    if (s.heads.group() == 1) return backward.by_heads();
    const std::int64_t sequences = sequences_at_a_time(s, device.queue().threads());
    const Shape shape = {sequences * s.heads.queries, 2 * key_floats(s)};
    backward.by_groups(Tensor::empty(device, shape, Dtype::float32, Category::activations), sequences);
  });
}

std::int64_t attention_backward_scratch(const AttentionShape& s, Dtype dtype) {
  const int threads = omp_get_max_threads();
  const std::int64_t floats = dtype == Dtype::float32 ? backward_floats<float>(s) : backward_floats<bfloat16>(s);
  const std::int64_t shared =
      s.heads.group() == 1 ? 0 : sequences_at_a_time(s, threads) * s.heads.queries * 2 * key_floats(s);
  return 4 * (threads * floats + shared);
}

}  // namespace muonp::core::cpu
