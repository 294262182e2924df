// Products whose result is known to be symmetric, at about half the cost of a full one: only the lower triangle is computed,
// in panels of rows whose diagonal blocks are halved down to kDiagonalBlock, and mirrored block by block while it is still
// in cache. float32 and bfloat16 (on a GPU also float16) storage; sums are float32. A GPU computes larger blocks, up to the
// diagonal as one batch, or the whole product where that is faster.
//
// "Symmetric" operands hold both triangles.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "core/device/blas.h"

namespace muonp::core {

inline constexpr std::int64_t kDiagonalBlock = 64;  // rows of a diagonal block, which is computed in full

struct SymmetricTerm {
  MatrixView matrix = {};  // n×n, of which the lower triangle is read; no data: no such term
  float factor = 0;
};

// What to make of the lower triangle of C while mirroring it: out = product·C + identity·I + Σ factor·matrix,
// n×n. Outs and terms have C's dtype, or, where C is float32, any one other: what is stored is then rounded once.
struct SymmetricForm {
  MatrixView out = {};
  float product = 1, identity = 0;
  SymmetricTerm first = {}, second = {};
  bool mirror = true;  // write both triangles, not only the lower one
};

// All below are of `count` matrices each, matrix i of a batch i·batch_stride elements behind its first; those of forms lie
// as far apart as C's. A GPU takes a batch in as many launches as one matrix, a CPU one matrix after the other.

// C = alpha·A·B for symmetric A and B that commute, n×n; C has their dtype or is float32. Then every form is written, in
// order; a form may write C itself when it is the last one, or one of its own terms. After a call without forms C holds both
// triangles; otherwise only the forms do and C's upper triangle is unspecified. C must not overlap A or B,
// nor a form's out A or B.
void symmetric_product(Queue& queue, std::int64_t count, float alpha, const StridedBatch& a, const StridedBatch& b,
                       const StridedBatch& c, std::span<const SymmetricForm> forms = {});

// The same for the Gram matrix C = alpha·AᵀA (side = Op::transpose, n = columns) or alpha·AAᵀ (Op::none, n =
// rows); C has A's dtype or is float32.
void gram(Queue& queue, std::int64_t count, Op side, float alpha, const StridedBatch& a, const StridedBatch& c,
          std::span<const SymmetricForm> forms = {});

// C = alpha·A·B like symmetric_product(), but as the mean of A·B and (A·B)ᵀ, from a full product: where
// rounding makes the factors commute only roughly, taking one triangle for the other costs accuracy.
void symmetrized_product(Queue& queue, std::int64_t count, float alpha, const StridedBatch& a, const StridedBatch& b,
                         const StridedBatch& c);

// The forms alone, of a C whose lower triangle is there.
void symmetric_forms(Queue& queue, std::int64_t count, const StridedBatch& c, std::span<const SymmetricForm> forms);

// Of one matrix.
inline void symmetric_product(Queue& queue, float alpha, const MatrixView& a, const MatrixView& b, const MatrixView& c,
                              std::span<const SymmetricForm> forms = {}) {
  symmetric_product(queue, 1, alpha, {a}, {b}, {c}, forms);
}
inline void gram(Queue& queue, Op side, float alpha, const MatrixView& a, const MatrixView& c,
                 std::span<const SymmetricForm> forms = {}) {
  gram(queue, 1, side, alpha, {a}, {c}, forms);
}
inline void symmetrized_product(Queue& queue, float alpha, const MatrixView& a, const MatrixView& b, const MatrixView& c) {
  symmetrized_product(queue, 1, alpha, {a}, {b}, {c});
}
inline void symmetric_forms(Queue& queue, const MatrixView& c, std::span<const SymmetricForm> forms) {
  symmetric_forms(queue, 1, {c}, forms);
}

// {tr X, ⟨X, X⟩, ⟨X, Y⟩, ⟨Y, Y⟩} of symmetric n×n matrices, from their lower triangles.
std::array<double, 4> symmetric_moments(Queue& queue, const MatrixView& x, const MatrixView& y);

// Floating-point operations that `count` symmetric products or Gram matrices execute: n×n, summed over k.
double symmetric_flops(std::int64_t n, std::int64_t k, DeviceKind kind = DeviceKind::cpu, std::int64_t count = 1);

}  // namespace muonp::core
