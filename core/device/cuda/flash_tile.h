// Tiles of a head's rows in shared memory, and products of the rows of a warp with them on the tensor cores. Device code.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/device/cuda/tensor_cores.h"

namespace muonp::core::cuda {

inline constexpr int kFlashWarps = 4, kFlashThreads = 32 * kFlashWarps;
inline constexpr int kCore = 16, kHalf = 8;  // rows of a product of the tensor cores; its columns
inline constexpr int kChunk = 8;             // elements of 16 bytes

// The rows of one head of one sequence in global memory.
struct HeadRows {
  bfloat16* first;
  std::int64_t stride;  // elements from a position to the next
  int count, size;      // positions; elements of a row, a multiple of kChunk

  __device__ bfloat16* row(int position) const { return first + position * stride; }
};

// `rows` rows of up to `size` elements; missing ones are 0. Rows are 16 bytes longer than that, so that the 16 bytes of 8
// rows, which are read at once, lie in different banks.
template <int rows, int size>
struct Tile {
  static constexpr int kStride = size + kChunk, kElements = rows * kStride, kChunks = size / kChunk;
  bfloat16* data;

  __device__ bfloat16* row(int r) const { return data + r * kStride; }

  // By all threads of the block.
  __device__ void begin_load(const HeadRows& from, int position) const {
    for (int i = static_cast<int>(threadIdx.x); i < rows * kChunks; i += kFlashThreads) {
      const int r = i / kChunks, c = i % kChunks * kChunk;
      const bool there = position + r < from.count && c < from.size;
      begin_copy(row(r) + c, there ? from.row(position + r) + c : from.first, there);
    }
  }
  // Rows [first, first + count) by the lanes of one warp, which are all that have written them.
  __device__ void store(const HeadRows& to, int position, int first, int count) const {
    __syncwarp();
    for (int i = lane_of_warp(); i < count * kChunks; i += 32) {
      const int r = first + i / kChunks, c = i % kChunks * kChunk;
      if (position + r < to.count && c < to.size)
        *reinterpret_cast<uint4*>(to.row(position + r) + c) = *reinterpret_cast<const uint4*>(row(r) + c);
    }
  }

  // The left operand: rows from r on, columns from c on.
  __device__ void left(int r, int c, std::uint32_t (&a)[4]) const {
    const int lane = lane_of_warp();
    load_matrices<false>(row(r + lane % kCore) + c + lane / kCore * kHalf, a);
  }
  // Right operands, two beside each other: of the transpose of the tile, whose rows from r on are its columns; and of the
  // tile itself, rows from r on, columns from c on.
  __device__ void right_transposed(int r, int c, std::uint32_t (&b)[4]) const {
    const int lane = lane_of_warp();
    load_matrices<false>(row(r + lane / kCore * kHalf + lane % kHalf) + c + lane / kHalf % 2 * kHalf, b);
  }
  __device__ void right(int r, int c, std::uint32_t (&b)[4]) const {
    const int lane = lane_of_warp();
    load_matrices<true>(row(r + lane % kCore) + c + lane / kCore * kHalf, b);
  }
};

// What a warp has of a product of 16 rows with `columns` columns: a lane's elements are of rows lane_row() and 8 below it.
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

  // Columns [16 part, 16 part + 16) as a left operand.
  __device__ void left(int part, std::uint32_t (&a)[4]) const {
    MUONP_UNROLL
    for (int i = 0; i < 4; ++i) a[i] = pair_of(at[2 * part + i / 2][i % 2 * 2], at[2 * part + i / 2][i % 2 * 2 + 1]);
  }

  // To rows from r on.
  template <class T>
  __device__ void write(const T& tile, int r, float factor) const {
    MUONP_UNROLL
    for (int i = 0; i < 2 * kParts; ++i)
      *reinterpret_cast<std::uint32_t*>(tile.row(r + i % 2 * kHalf + lane_row()) + i / 2 * kHalf + lane_column()) =
          pair_of(factor * at[i / 2][i % 2 * 2], factor * at[i / 2][i % 2 * 2 + 1]);
  }
};

// C[i] += A[i]·B for two parts of the columns of C, from column n on.
template <int blocks, int columns>
__device__ void add_parts(const std::uint32_t (&a)[blocks][4], const std::uint32_t (&b)[4], int n,
                          WarpRows<columns> (&c)[blocks]) {
  MUONP_UNROLL
  for (int i = 0; i < blocks; ++i) {
    multiply_add(a[i], b[0], b[1], c[i].at[n / kHalf]);
    multiply_add(a[i], b[2], b[3], c[i].at[n / kHalf + 1]);
  }
}

// C[i] += A[i]·Bᵀ for `blocks` times 16 rows of A from r on.
template <int blocks, int rows, int columns, int size>
__device__ void add_rows_by_rows(const Tile<rows, size>& a, int r, const Tile<columns, size>& b,
                                 WarpRows<columns> (&c)[blocks]) {
  MUONP_UNROLL
  for (int k = 0; k < size; k += kCore) {
    std::uint32_t left[blocks][4], right[4];
    MUONP_UNROLL
    for (int i = 0; i < blocks; ++i) a.left(r + i * kCore, k, left[i]);
    MUONP_UNROLL
    for (int n = 0; n < columns; n += kCore) {
      b.right_transposed(n, k, right);
      add_parts(left, right, n, c);
    }
  }
}

// C[i] += A[i]·B, A rounded to bfloat16.
template <int blocks, int columns, int size>
__device__ void add_rows_by_columns(const WarpRows<columns> (&a)[blocks], const Tile<columns, size>& b,
                                    WarpRows<size> (&c)[blocks]) {
  MUONP_UNROLL
  for (int k = 0; k < columns; k += kCore) {
    std::uint32_t left[blocks][4], right[4];
    MUONP_UNROLL
    for (int i = 0; i < blocks; ++i) a[i].left(k / kCore, left[i]);
    MUONP_UNROLL
    for (int n = 0; n < size; n += kCore) {
      b.right(k, n, right);
      add_parts(left, right, n, c);
    }
  }
}

}  // namespace muonp::core::cuda
