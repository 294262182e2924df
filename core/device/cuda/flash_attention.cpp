#include "core/device/cuda/flash_attention.h"

#include <cmath>

#include "core/base/math.h"
#include "core/base/storage.h"
#include "core/device/cuda/flash_products.h"
#include "core/device/for_each.h"

namespace muonp::core::cuda {

namespace {

constexpr float kLog2E = 1.44269504f;

// The most dynamic shared memory that a block may have on every GPU from compute capability 8.0 on (8.6: 100 KiB of a
// multiprocessor, one of them the driver's).
constexpr int kSharedBytes = 99 << 10;

// Columns of a tile of scores, and rows of 16 that a warp has of it: as many as the registers hold, and in float32 the
// shared memory.
template <class T, int size>
inline constexpr int kColumns = (size <= 64 ? 128 : 64) / static_cast<int>(sizeof(T));
template <int size>
inline constexpr int kRowBlocks = size <= 64 ? 2 : 1;
template <int size>
inline constexpr int kForwardRows = kFlashWarps* kRowBlocks<size>* kCore;
inline constexpr int kBackwardRows = kFlashWarps * kCore;

// A packed tensor or one like it: heads of `size` elements in rows that lie `stride` elements apart, `positions` rows for
// each sequence.
template <class T>
struct HeadsOf {
  T* first;
  std::int64_t stride, positions;
};

template <class T>
struct Flash {
  HeadsOf<T> q, k, v, out, dout, dq, dk, dv;
  float *logsumexp, *maxima, *deltas;  // [batch, query heads, time]; Σ dO·O
  const std::int32_t* begins;          // [batch, time], or null
  const std::int32_t* lengths;         // [batch] keys before the first query of each sequence, or null for none
  int time, queries, keys, size, window;
  float scale;
  bool in_chunks;  // of all rows, as in HeadRows

  __device__ int length(int b) const { return lengths ? lengths[b] : 0; }
  __device__ HeadRows<T> rows(const HeadsOf<T>& of, int b, int head) const { return rows(of, b, head, time); }
  __device__ HeadRows<T> rows(const HeadsOf<T>& of, int b, int head, int count) const {
    return {of.first + (b * of.positions * of.stride + head * size), of.stride, count, size, in_chunks};
  }
  __device__ int group() const { return queries / keys; }
  __device__ std::int64_t place(int b, int head, int t) const {
    return (static_cast<std::int64_t>(b) * queries + head) * time + t;
  }
  // The first key that query t sees, which does not fall with t; behind the sequence what the last one sees.
  __device__ int begin(int b, int t) const {
    const int within = t < time ? t : time - 1, of_window = window == 0 ? 0 : length(b) + within - window + 1;
    const int of_document = begins ? begins[static_cast<std::int64_t>(b) * time + within] : 0;
    const int later = of_window > of_document ? of_window : of_document;
    return later > 0 ? later : 0;
  }
};

__device__ int warp_of_block() { return static_cast<int>(threadIdx.x) / 32; }

// The same in the four lanes that share a row.
template <class Op>
__device__ float reduce_row(float value, const Op& op) {
  value = op(value, __shfl_xor_sync(kAllLanes, value, 1));
  return op(value, __shfl_xor_sync(kAllLanes, value, 2));
}

// Which of the `count` tiles of a head this block takes: those of a head come one after the other, which share its rows in
// the second-level cache.
struct TileOfHead {
  int index, count, head, sequence;
};
__device__ TileOfHead tile_of_head(int time, int rows, int heads) {
  const int count = (time + rows - 1) / rows, block = static_cast<int>(blockIdx.x);
  return {block % count, count, block / count % heads, block / count / heads};
}

// ---- forward ----

template <class T, int size>
struct ForwardTiles {
  using Queries = Tile<T, kForwardRows<size>, size>;
  using Keys = Tile<T, kColumns<T, size>, size>;
  static constexpr int kBytes = static_cast<int>(sizeof(T)) * (Queries::kElements + 4 * Keys::kElements);
  static_assert(kBytes <= kSharedBytes);

  T* memory;
  __device__ Queries q() const { return {memory}; }
  // Of stage 0 or 1: those of this turn and of the next one.
  __device__ Keys k(int stage) const { return {memory + Queries::kElements + 2 * stage * Keys::kElements}; }
  __device__ Keys v(int stage) const { return {k(stage).data + Keys::kElements}; }
};

// The running softmax of a row, of which a lane has every fourth pair of columns. Scores come without their scale; `scale`
// includes log₂ e.
struct RunningRow {
  float highest = -INFINITY, sum = 0;  // of all scores yet; this lane's share of Σ 2^(scale·score − base)

  // 0 for a row that has not seen a key yet, whose weights are 0 then.
  __device__ float base(float scale) const { return highest == -INFINITY ? 0.0f : scale * highest; }
  // The row has met `score` too. What was summed before is to be multiplied by the result.
  __device__ float raise(float score, float scale) {
    const float before = scale * highest;
    highest = Max()(highest, score);
    const float by = power_of_two(before - base(scale));
    sum *= by;
    return by;
  }
};

// Online softmax (Milakov and Gimelshein 2018): the scores of the lane's two rows of a tile become weights relative to the
// largest score yet, and `result`, which was summed with weights relative to an earlier one, is brought to the same.
template <int columns, int size>
__device__ void online_softmax(RunningRow (&rows)[2], float scale, WarpRows<columns>& scores, WarpRows<size>& result) {
  float base[2], by[2];
  MUONP_UNROLL
  for (int half = 0; half < 2; ++half) {
    float highest = -INFINITY;
    MUONP_UNROLL
    for (const auto& part : scores.at) highest = Max()(highest, Max()(part[2 * half], part[2 * half + 1]));
    by[half] = rows[half].raise(reduce_row(highest, Max()), scale);
    base[half] = rows[half].base(scale);
  }
  scores.each([&](float& score, int half, int) {
    score = power_of_two(scale * score - base[half]);
    rows[half].sum += score;
  });
  result.each([&](float& value, int half, int) { value *= by[half]; });
}

template <class T, int size>
__global__ void __launch_bounds__(kFlashThreads, 2) forward_kernel(Flash<T> p) {
  MUONP_DYNAMIC_SHARED(T, memory);
  const ForwardTiles<T, size> tiles{memory};
  constexpr int kCols = kColumns<T, size>, kRows = kForwardRows<size>, kBlocks = kRowBlocks<size>;
  const TileOfHead at = tile_of_head(p.time, kRows, p.queries);
  const int first = (at.count - 1 - at.index) * kRows;  // the longest ones come first
  const int last = std::min(first + kRows, p.time) - 1;
  const int row = warp_of_block() * kBlocks * kCore;  // the warp's first one, in the tile
  const bool idle = first + row >= p.time;            // all of the warp's rows lie behind the sequence
  const int length = p.length(at.sequence), last_key = length + last, key_head = at.head / p.group();
  const auto load = [&](int key, int stage) {
    tiles.k(stage).begin_load(p.rows(p.k, at.sequence, key_head, length + p.time), key);
    tiles.v(stage).begin_load(p.rows(p.v, at.sequence, key_head, length + p.time), key);
  };
  int key = p.begin(at.sequence, first) / kCols * kCols;
  const int begin_of_last = p.begin(at.sequence, last);
  tiles.q().begin_load(p.rows(p.q, at.sequence, at.head), first);
  load(key, 0);

  RunningRow rows[kBlocks][2];
  WarpRows<size> result[kBlocks];
  for (int stage = 0; key <= last_key; key += kCols, stage ^= 1) {
    wait_for_copies();
    __syncthreads();  // this stage is there, and all warps have done with the other one
    if (key + kCols <= last_key) load(key + kCols, stage ^ 1);
    if (idle) continue;
    WarpRows<kCols> scores[kBlocks];
    add_rows_by_rows(tiles.q(), row, tiles.k(stage), scores);
    const bool all_seen = key + kCols - 1 <= length + first && key >= begin_of_last;
    MUONP_UNROLL
    for (int i = 0; i < kBlocks; ++i) {
      if (!all_seen) {
        const int query = first + row + i * kCore + lane_row();
        const int begins[2] = {p.begin(at.sequence, query), p.begin(at.sequence, query + kHalf)};
        scores[i].each([&](float& score, int half, int column) {
          if (key + column > length + query + half * kHalf || key + column < begins[half]) score = -INFINITY;
        });
      }
      online_softmax(rows[i], p.scale * kLog2E, scores[i], result[i]);
    }
    add_rows_by_columns(scores, tiles.v(stage), result);
  }

  __syncwarp();  // the warp's rows of Q are read, and become those of the result
  MUONP_UNROLL
  for (int i = 0; i < kBlocks; ++i) {
    float inverse[2];
    MUONP_UNROLL
    for (int half = 0; half < 2; ++half) {
      const float highest = p.scale * rows[i][half].highest, sum = reduce_row(rows[i][half].sum, Sum());
      inverse[half] = 1.0f / sum;
      const int query = first + row + i * kCore + half * kHalf + lane_row();
      if (query >= p.time || lane_column() != 0) continue;
      const std::int64_t place = p.place(at.sequence, at.head, query);
      if (p.logsumexp) p.logsumexp[place] = highest + math::log(sum);
      if (p.maxima) p.maxima[place] = highest;
    }
    result[i].each([&](float& value, int half, int) { value *= inverse[half]; });
    result[i].write(tiles.q(), row + i * kCore, 1);
  }
  tiles.q().store(p.rows(p.out, at.sequence, at.head), first, row, kBlocks * kCore);
}

// ---- backward ----

// D = Σ dO·O of a row.
template <class T>
struct RowDots {
  const T *out, *dout;
  float* deltas;
  std::int64_t time, heads;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t head = row.index / time, t = row.index % time;
    const std::int64_t at = ((head / heads * time + t) * heads + head % heads) * row.cols;
    deltas[row.index] = row.sum([](T x, T y) { return float(x) * float(y); }, out + at, dout + at);
  }
};

// What is known of a query beside its rows.
struct QueryFacts {
  float logsumexp, delta;  // that of a query behind the sequence is infinite: its weights are 0
  int begin;

  __device__ QueryFacts() {}
  template <class T>
  __device__ QueryFacts(const Flash<T>& p, int b, int head, int t) : begin(p.begin(b, t)) {
    const bool there = t < p.time;
    logsumexp = there ? p.logsumexp[p.place(b, head, t)] * kLog2E : INFINITY;
    delta = there ? p.deltas[p.place(b, head, t)] : 0.0f;
  }
};

template <class T, int size>
struct BackwardTiles {
  using Rows = Tile<T, kBackwardRows, size>;
  using Columns = Tile<T, kColumns<T, size>, size>;
  static constexpr int kBytes = static_cast<int>(sizeof(T)) * (2 * Rows::kElements + 4 * Columns::kElements);
  static_assert(kBytes <= kSharedBytes);

  T* memory;
  // Q and dO, or K and V.
  __device__ Rows left() const { return {memory}; }
  __device__ Rows left_weights() const { return {memory + Rows::kElements}; }
  // K and V, or Q and dO; of stage 0 or 1: those of this turn and of the next one.
  __device__ Columns right(int stage) const { return {memory + 2 * Rows::kElements + 2 * stage * Columns::kElements}; }
  __device__ Columns right_weights(int stage) const { return {right(stage).data + Columns::kElements}; }
  // Of a column, where that is a query: beside its row of Q.
  __device__ QueryFacts& facts(int stage, int column) const { return right(stage).template beside<QueryFacts>(column); }
};

// The queries that see a key of [first, last] go from `first` to before this one.
template <class T>
__device__ int end_of_queries(const Flash<T>& p, int b, int first, int last) {
  int low = first, high = p.time;  // what query `low` sees begins at `last` or before
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (p.begin(b, middle) <= last ? low : high) = middle;
  }
  return high;
}

// With S the scores, P = exp(scale·S − logsumexp) and dS = P∘(dO·Vᵀ − D): of a tile of queries dQ = scale·dS·K; of a tile of
// keys dK = scale·dSᵀ·Q and dV = Pᵀ·dO, where rows are keys and columns the queries of all heads that share them.
template <class T, int size, bool of_keys>
__global__ void __launch_bounds__(kFlashThreads, 2) backward_kernel(Flash<T> p) {
  MUONP_DYNAMIC_SHARED(T, memory);
  const BackwardTiles<T, size> tiles{memory};
  constexpr int kCols = kColumns<T, size>;
  const TileOfHead at = tile_of_head(p.time, kBackwardRows, of_keys ? p.keys : p.queries);
  const int first = (of_keys ? at.index : at.count - 1 - at.index) * kBackwardRows;  // the longest ones come first
  const int last = std::min(first + kBackwardRows, p.time) - 1, row = warp_of_block() * kCore;
  const bool idle = first + row >= p.time;  // all of the warp's rows lie behind the sequence

  // Columns [low, high) of each of `group` heads, tile by tile.
  const int group = of_keys ? p.group() : 1;
  const int low = (of_keys ? first : p.begin(at.sequence, first)) / kCols * kCols;
  const int high = of_keys ? end_of_queries(p, at.sequence, first, last) : last + 1;
  const int tiles_of_head = (high - low + kCols - 1) / kCols, turns = group * tiles_of_head;
  const auto load = [&](int turn_of_columns, int stage) {
    const int column = low + turn_of_columns % tiles_of_head * kCols;
    const int other = of_keys ? at.head * group + turn_of_columns / tiles_of_head : at.head / p.group();
    tiles.right(stage).begin_load(p.rows(of_keys ? p.q : p.k, at.sequence, other), column);
    tiles.right_weights(stage).begin_load(p.rows(of_keys ? p.dout : p.v, at.sequence, other), column);
    const int mine = static_cast<int>(threadIdx.x);
    if (of_keys && mine < kCols) tiles.facts(stage, mine) = QueryFacts(p, at.sequence, other, column + mine);
  };
  tiles.left().begin_load(p.rows(of_keys ? p.k : p.q, at.sequence, at.head), first);
  tiles.left_weights().begin_load(p.rows(of_keys ? p.v : p.dout, at.sequence, at.head), first);
  load(0, 0);

  QueryFacts facts[2];  // of the rows, where these are queries
  if constexpr (!of_keys) {
    const int query = first + row + lane_row();
    facts[0] = QueryFacts(p, at.sequence, at.head, query);
    facts[1] = QueryFacts(p, at.sequence, at.head, query + kHalf);
  }
  WarpRows<size> gradient[1], of_values[1];

  for (int i = 0, stage = 0; i < turns; ++i, stage ^= 1) {
    wait_for_copies();
    __syncthreads();  // this stage is there, and all warps have done with the other one
    if (i + 1 < turns) load(i + 1, stage ^ 1);
    if (idle) continue;
    const int column = low + i % tiles_of_head * kCols;
    WarpRows<kCols> scores[1], dscores[1];
    add_rows_by_rows(tiles.left(), row, tiles.right(stage), scores);
    add_rows_by_rows(tiles.left_weights(), row, tiles.right_weights(stage), dscores);

    const int first_query = of_keys ? column : first, last_query = of_keys ? column + kCols - 1 : last;
    const int first_key = of_keys ? first : column, last_key = of_keys ? last : column + kCols - 1;
    const bool masked = last_key > first_query || p.begin(at.sequence, last_query) > first_key;
    scores[0].each(dscores[0], [&](float& score, float& dscore, int half, int c) {
      const int r = first + row + half * kHalf + lane_row(), query = of_keys ? column + c : r,
                key = of_keys ? r : column + c;
      const QueryFacts& of_query = of_keys ? tiles.facts(stage, c) : facts[half];
      score = power_of_two(p.scale * kLog2E * score - of_query.logsumexp);
      if (masked && (key > query || key < of_query.begin)) score = 0;
      dscore = score * (dscore - of_query.delta);
    });
    add_rows_by_columns(dscores, tiles.right(stage), gradient);
    if constexpr (of_keys) add_rows_by_columns(scores, tiles.right_weights(stage), of_values);
  }

  __syncwarp();  // the warp's rows of both are read, and become those of the gradients
  gradient[0].write(tiles.left(), row, p.scale);
  tiles.left().store(p.rows(of_keys ? p.dk : p.dq, at.sequence, at.head), first, row, kCore);
  if constexpr (of_keys) {
    of_values[0].write(tiles.left_weights(), row, 1);
    tiles.left_weights().store(p.rows(p.dv, at.sequence, at.head), first, row, kCore);
  }
}

// ---- launches ----

// f(std::integral_constant<int, n>()) with the smallest n that a head fits.
template <class F>
void with_size(std::int64_t size, const F& f) {
  if (size <= 32) return f(std::integral_constant<int, 32>());
  if (size <= 64) return f(std::integral_constant<int, 64>());
  f(std::integral_constant<int, 128>());
}

template <class T>
void launch_tiles(Queue& queue, void (*kernel)(Flash<T>), int bytes, int rows, std::int64_t heads, const Flash<T>& p) {
  MUONP_CUDA(
      cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  const std::int64_t blocks = heads * ((p.time + rows - 1) / rows);
  MUONP_ASSERT(blocks < std::int64_t{1} << 31, "{} tiles of attention", blocks);
  launch(kernel, dim3(static_cast<unsigned>(blocks)), dim3(kFlashThreads), static_cast<std::size_t>(bytes), stream_of(queue),
         p);
}

template <class T>
Flash<T> flash_of(const AttentionShape& s, const Tensor& qkv, const Tensor& begins, const Tensor& out) {
  const AttentionHeads& h = s.heads;
  MUONP_ASSERT(h.size >= 1 && h.size <= kLargestGpuHead, "a head of {} on a GPU", h.size);
  auto* first = qkv.data<T>();
  Flash<T> p{};
  p.q = {first, h.width(), s.time};
  p.k = {first + h.query_width(), h.width(), s.time};
  p.v = {first + h.query_width() + h.key_width(), h.width(), s.time};
  p.out = {out.data<T>(), h.query_width(), s.time};
  p.begins = begins ? begins.data<std::int32_t>() : nullptr;
  p.time = to_int(s.time), p.queries = to_int(h.queries), p.keys = to_int(h.keys), p.size = to_int(h.size);
  p.window = to_int(h.window);
  p.scale = 1.0f / std::sqrt(static_cast<float>(h.size));
  return p;
}

// Whether all rows of all heads are whole chunks that begin at a multiple of 16 bytes: where the first row of each tensor
// does, and heads and rows are so many elements apart.
template <class T>
bool lies_in_chunks(const Flash<T>& p) {
  const HeadsOf<T> all[] = {p.q, p.k, p.v, p.out, p.dout, p.dq, p.dk, p.dv};
  bool whole = p.size % kChunk<T> == 0;
  for (const HeadsOf<T>& of : all)
    whole = whole && reinterpret_cast<std::uintptr_t>(of.first) % 16 == 0 && of.stride % kChunk<T> == 0;
  return whole;
}

template <class T>
void launch_forward(Queue& queue, const AttentionShape& s, Flash<T> p) {
  p.in_chunks = lies_in_chunks(p);
  with_size(s.heads.size, [&]<int size>(std::integral_constant<int, size>) {
    launch_tiles(queue, &forward_kernel<T, size>, ForwardTiles<T, size>::kBytes, kForwardRows<size>, s.query_heads(), p);
  });
}

template <class T>
void launch_backward(Queue& queue, const AttentionShape& s, Flash<T> p) {
  core::for_each_row(queue, s.query_heads() * s.time, s.heads.size,
                     RowDots<T>{p.out.first, p.dout.first, p.deltas, s.time, s.heads.queries});
  p.in_chunks = lies_in_chunks(p);
  with_size(s.heads.size, [&]<int size>(std::integral_constant<int, size>) {
    constexpr int kBytes = BackwardTiles<T, size>::kBytes;
    launch_tiles(queue, &backward_kernel<T, size, false>, kBytes, kBackwardRows, s.query_heads(), p);
    launch_tiles(queue, &backward_kernel<T, size, true>, kBytes, kBackwardRows, s.key_heads(), p);
  });
}

}  // namespace

void flash_forward(Device& device, const AttentionShape& s, const Tensor& qkv, const Tensor& begins, const Tensor& out,
                   const Tensor& logsumexp, const Tensor& maxima) {
  with_float_type(qkv.dtype(), [&]<class T>(T) {
    Flash<T> p = flash_of<T>(s, qkv, begins, out);
    p.logsumexp = logsumexp.data<float>();
    p.maxima = maxima ? maxima.data<float>() : nullptr;
    launch_forward(device.queue(), s, p);
  });
}

void flash_with_cache(Device& device, const AttentionHeads& heads, const Tensor& qkv, const Tensor& keys,
                      const Tensor& values, const Tensor& lengths, const Tensor& out) {
  const AttentionShape s{qkv.dim(0), qkv.dim(1), heads};
  with_float_type(qkv.dtype(), [&]<class T>(T) {
    Flash<T> p = flash_of<T>(s, qkv, {}, out);
    p.k = {keys.data<T>(), heads.key_width(), keys.dim(1)};
    p.v = {values.data<T>(), heads.key_width(), keys.dim(1)};
    p.lengths = lengths.data<std::int32_t>();
    launch_forward(device.queue(), s, p);
  });
}

void flash_backward(Device& device, const AttentionShape& s, const Tensor& qkv, const Tensor& begins, const Tensor& out,
                    const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv) {
  const AttentionHeads& h = s.heads;
  const Tensor deltas = Tensor::empty(device, logsumexp.shape(), Dtype::float32, Category::activations);
  with_float_type(qkv.dtype(), [&]<class T>(T) {
    Flash<T> p = flash_of<T>(s, qkv, begins, out);
    auto* gradients = dqkv.data<T>();
    p.logsumexp = logsumexp.data<float>();
    p.deltas = deltas.data<float>();
    p.dout = {dout.data<T>(), h.query_width(), s.time};
    p.dq = {gradients, h.width(), s.time};
    p.dk = {gradients + h.query_width(), h.width(), s.time};
    p.dv = {gradients + h.query_width() + h.key_width(), h.width(), s.time};
    launch_backward(device.queue(), s, p);
  });
}

}  // namespace muonp::core::cuda
