// Tiles of a head's rows in shared memory, and what a warp has of a product of them: float32 or bfloat16. Device code.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/device/cuda/tensor_cores.h"

namespace muonp::core::cuda {

inline constexpr int kFlashWarps = 4, kFlashThreads = 32 * kFlashWarps;
inline constexpr int kCore = 16, kHalf = 8;  // rows of a product of the tensor cores; its columns
template <class T>
inline constexpr int kChunk = 16 / static_cast<int>(sizeof(T));  // elements of 16 bytes

// The rows of one head of one sequence in global memory.
template <class T>
struct HeadRows {
  T* first;
  std::int64_t stride;  // elements from a position to the next
  int count, size;      // positions; elements of a row
  bool in_chunks;       // rows are whole chunks and begin at a multiple of 16 bytes; others are moved element by element

  __device__ T* row(int position) const { return first + position * stride; }
};

// `rows` rows of up to `size` elements; missing ones are 0. Rows are 16 bytes longer than that: as `size` is a multiple of
// 32, 16 bytes of each of 8 rows one after the other, or of 4 every other one, which are read at once, lie in different
// banks.
template <class T, int rows, int size>
struct Tile {
  static constexpr int kStride = size + kChunk<T>, kElements = rows * kStride, kChunks = size / kChunk<T>;
  T* data;

  __device__ T* row(int r) const { return data + r * kStride; }
  // The 16 bytes behind the elements of row r, of which no product knows.
  template <class Other>
  __device__ Other& beside(int r) const {
    static_assert(sizeof(Other) <= 16 && alignof(Other) <= 16);
    return *reinterpret_cast<Other*>(row(r) + size);
  }

  // By all threads of the block, into a tile that none of them reads any more: elements that go one by one are stored at
  // once. After wait_for_copies() and a barrier all threads have what all have loaded, whichever way it went.
  __device__ void begin_load(const HeadRows<T>& from, int position) const {
    for (int i = static_cast<int>(threadIdx.x); i < rows * kChunks; i += kFlashThreads) {
      const int r = i / kChunks, c = i % kChunks * kChunk<T>;
      const int here = position + r < from.count ? from.size - c : 0;  // elements of the row, from c on
      const T* first = here > 0 ? from.row(position + r) + c : from.first;
      if (from.in_chunks) {
        begin_copy(row(r) + c, first, here > 0);
      } else {
        for (int e = 0; e < kChunk<T>; ++e) row(r)[c + e] = e < here ? first[e] : T(0.0f);
      }
    }
  }
  // Rows [first, first + count) by the lanes of one warp, which are all that have written them.
  __device__ void store(const HeadRows<T>& to, int position, int first, int count) const {
    __syncwarp();
    if (!to.in_chunks) return store_elements(to, position, first, count);
    for (int i = lane_of_warp(); i < count * kChunks; i += 32) {
      const int r = first + i / kChunks, c = i % kChunks * kChunk<T>;
      if (position + r < to.count && c < to.size)
        *reinterpret_cast<uint4*>(to.row(position + r) + c) = *reinterpret_cast<const uint4*>(row(r) + c);
    }
  }

 private:
  __device__ void store_elements(const HeadRows<T>& to, int position, int first, int count) const {
    for (int i = lane_of_warp(); i < count * size; i += 32) {
      const int r = first + i / size, c = i % size;
      if (position + r < to.count && c < to.size) to.row(position + r)[c] = row(r)[c];
    }
  }
};

// Two neighbouring elements, each rounded to nearest.
__device__ inline void write_pair(bfloat16* to, float first, float second) {
  *reinterpret_cast<std::uint32_t*>(to) = pair_of(first, second);
}
__device__ inline void write_pair(float* to, float first, float second) {
  *reinterpret_cast<float2*>(to) = make_float2(first, second);
}

// What a warp has of a product of 16 rows with `columns` columns, as the tensor cores give it: a lane's elements are of rows
// lane_row() and 8 below it, of each 8 columns the two from lane_column() on.
template <int columns>
struct WarpRows {
  static constexpr int kParts = columns / kHalf;
  float at[kParts][4] = {};

  // f(element, half, column): half 0 for lane_row(), 1 for the row 8 below; and f(element, other's, half, column).
  template <class F>
  __device__ void each(const F& f) {
    MUONP_UNROLL
    for (int i = 0; i < 4 * kParts; ++i) f(at[i / 4][i % 4], i % 4 / 2, i / 4 * kHalf + lane_column() + i % 2);
  }
  template <class F>
  __device__ void each(WarpRows& other, const F& f) {
    MUONP_UNROLL
    for (int i = 0; i < 4 * kParts; ++i)
      f(at[i / 4][i % 4], other.at[i / 4][i % 4], i % 4 / 2, i / 4 * kHalf + lane_column() + i % 2);
  }

  // To rows from r on.
  template <class T, int rows, int size>
  __device__ void write(const Tile<T, rows, size>& tile, int r, float factor) const {
    MUONP_UNROLL
    for (int i = 0; i < 2 * kParts; ++i)
      write_pair(tile.row(r + i % 2 * kHalf + lane_row()) + i / 2 * kHalf + lane_column(), factor * at[i / 2][i % 2 * 2],
                 factor * at[i / 2][i % 2 * 2 + 1]);
  }
};

}  // namespace muonp::core::cuda
