// Products of the rows of a warp with tiles in shared memory (core/device/cuda/flash_tile.h): C[i] += A[i]·Bᵀ and
// C[i] += A[i]·B for `blocks` times 16 rows. bfloat16 on the tensor cores; float32 by fused multiplications and additions,
// no operand rounded. All lanes of a warp take part; sums in float32, each in an order of its own. Device code.
#pragma once

#include "core/device/cuda/flash_tile.h"

namespace muonp::core::cuda {

// ---- bfloat16 ----

// The left operand: rows from r on, columns from c on.
template <int rows, int size>
__device__ void load_left(const Tile<bfloat16, rows, size>& tile, int r, int c, std::uint32_t (&a)[4]) {
  const int lane = lane_of_warp();
  load_matrices<false>(tile.row(r + lane % kCore) + c + lane / kCore * kHalf, a);
}
// Right operands, two beside each other: of the transpose of the tile, whose rows from r on are its columns; and of the
// tile itself, rows from r on, columns from c on.
template <int rows, int size>
__device__ void load_right_transposed(const Tile<bfloat16, rows, size>& tile, int r, int c, std::uint32_t (&b)[4]) {
  const int lane = lane_of_warp();
  load_matrices<false>(tile.row(r + lane / kCore * kHalf + lane % kHalf) + c + lane / kHalf % 2 * kHalf, b);
}
template <int rows, int size>
__device__ void load_right(const Tile<bfloat16, rows, size>& tile, int r, int c, std::uint32_t (&b)[4]) {
  const int lane = lane_of_warp();
  load_matrices<true>(tile.row(r + lane % kCore) + c + lane / kCore * kHalf, b);
}
// Columns [16 part, 16 part + 16) of a product as a left operand.
template <int columns>
__device__ void round_left(const WarpRows<columns>& rows, int part, std::uint32_t (&a)[4]) {
  MUONP_UNROLL
  for (int i = 0; i < 4; ++i) a[i] = pair_of(rows.at[2 * part + i / 2][i % 2 * 2], rows.at[2 * part + i / 2][i % 2 * 2 + 1]);
}

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

// C[i] += A[i]·Bᵀ for rows of A from r on.
template <int blocks, int rows, int columns, int size>
__device__ void add_rows_by_rows(const Tile<bfloat16, rows, size>& a, int r, const Tile<bfloat16, columns, size>& b,
                                 WarpRows<columns> (&c)[blocks]) {
  MUONP_UNROLL
  for (int k = 0; k < size; k += kCore) {
    std::uint32_t left[blocks][4], right[4];
    MUONP_UNROLL
    for (int i = 0; i < blocks; ++i) load_left(a, r + i * kCore, k, left[i]);
    MUONP_UNROLL
    for (int n = 0; n < columns; n += kCore) {
      load_right_transposed(b, n, k, right);
      add_parts(left, right, n, c);
    }
  }
}

// C[i] += A[i]·B, A rounded to bfloat16.
template <int blocks, int columns, int size>
__device__ void add_rows_by_columns(const WarpRows<columns> (&a)[blocks], const Tile<bfloat16, columns, size>& b,
                                    WarpRows<size> (&c)[blocks]) {
  MUONP_UNROLL
  for (int k = 0; k < columns; k += kCore) {
    std::uint32_t left[blocks][4], right[4];
    MUONP_UNROLL
    for (int i = 0; i < blocks; ++i) round_left(a[i], k / kCore, left[i]);
    MUONP_UNROLL
    for (int n = 0; n < size; n += kCore) {
      load_right(b, k, n, right);
      add_parts(left, right, n, c);
    }
  }
}

// ---- float32 ----

// C[i] += A[i]·Bᵀ for rows of A from r on, 4 elements of each row at a time: the 8 rows of A and the 4 of B that the lanes
// read at once lie in different banks, and each is read by all lanes that want it together.
template <int blocks, int rows, int columns, int size>
__device__ void add_rows_by_rows(const Tile<float, rows, size>& a, int r, const Tile<float, columns, size>& b,
                                 WarpRows<columns> (&c)[blocks]) {
  const auto four_of = [](const float* row) { return *reinterpret_cast<const float4*>(row); };
  for (int k = 0; k < size; k += kChunk<float>) {
    float4 left[2 * blocks];
    MUONP_UNROLL
    for (int i = 0; i < 2 * blocks; ++i) left[i] = four_of(a.row(r + i * kHalf + lane_row()) + k);
    MUONP_UNROLL
    for (int n = 0; n < 2 * WarpRows<columns>::kParts; ++n) {
      const float4 right = four_of(b.row(n / 2 * kHalf + lane_column() + n % 2) + k);
      MUONP_UNROLL
      for (int i = 0; i < 2 * blocks; ++i) {
        float& sum = c[i / 2].at[n / 2][i % 2 * 2 + n % 2];
        sum += left[i].x * right.x;
        sum += left[i].y * right.y;
        sum += left[i].z * right.z;
        sum += left[i].w * right.w;
      }
    }
  }
}

// C[i] += A[i]·B: each element of A comes from the one of the row's four lanes that has it.
template <int blocks, int columns, int size>
__device__ void add_rows_by_columns(const WarpRows<columns> (&a)[blocks], const Tile<float, columns, size>& b,
                                    WarpRows<size> (&c)[blocks]) {
  MUONP_UNROLL
  for (int k = 0; k < columns; ++k) {
    float left[2 * blocks];
    MUONP_UNROLL
    for (int i = 0; i < 2 * blocks; ++i)
      left[i] = __shfl_sync(kAllLanes, a[i / 2].at[k / kHalf][i % 2 * 2 + k % 2], k % kHalf / 2, 4);
    MUONP_UNROLL
    for (int n = 0; n < WarpRows<size>::kParts; ++n) {
      const float2 right = *reinterpret_cast<const float2*>(b.row(k) + n * kHalf + lane_column());
      MUONP_UNROLL
      for (int i = 0; i < 2 * blocks; ++i) {
        c[i / 2].at[n][i % 2 * 2] += left[i] * right.x;
        c[i / 2].at[n][i % 2 * 2 + 1] += left[i] * right.y;
      }
    }
  }
}

}  // namespace muonp::core::cuda
