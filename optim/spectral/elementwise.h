// Passes over whole matrices that the recurrences share. float32, bfloat16 or float16 storage, arithmetic in float32.
#pragma once

#include "core/device/blas.h"

namespace muonp::optim::spectral {

// to = factor·from, from float32, to in its own dtype; may be in place. The factor may lie outside float32's
// range.
void copy_scaled(core::Queue& queue, const core::MatrixView& from, double factor, const core::MatrixView& to);

// to = from, to in float32, of `count` matrices.
void widen(core::Queue& queue, std::int64_t count, const core::StridedBatch& from, const core::StridedBatch& to);

// out = identity·I + factor·out + term_factor·X, where X, if it has data, has out's shape and dtype. I has ones where row
// and column are equal. Of `count` matrices, those of X as far apart as those of out.
void affine(core::Queue& queue, std::int64_t count, float identity, float factor, const core::StridedBatch& out,
            float term_factor = 0, const core::MatrixView& term = {});
inline void affine(core::Queue& queue, float identity, float factor, const core::MatrixView& out, float term_factor = 0,
                   const core::MatrixView& term = {}) {
  affine(queue, 1, identity, factor, {out}, term_factor, term);
}

// X ← X + value·I, of `count` matrices.
void add_to_diagonal(core::Queue& queue, std::int64_t count, const core::StridedBatch& x, float value);

// ‖X‖_F² of a float32 matrix in double precision; NaN or infinite exactly when an entry is.
double squared_norm(core::Queue& queue, const core::MatrixView& x);

// out = alpha·(X·S) for tall or square X, alpha·(S·X) for wide X, + beta·out; S is min(rows, cols) square.
void multiply_small(core::Queue& queue, float alpha, const core::MatrixView& x, const core::MatrixView& small, float beta,
                    const core::MatrixView& out);
// The same of `count` matrices.
void multiply_small(core::Queue& queue, std::int64_t count, float alpha, const core::StridedBatch& x,
                    const core::StridedBatch& small, float beta, const core::StridedBatch& out);

inline bool is_wide(const core::MatrixView& x) { return x.rows < x.cols; }
// The side on which the smaller Gram matrix stands, as gram() takes it.
inline core::Op gram_side(const core::MatrixView& x) { return is_wide(x) ? core::Op::none : core::Op::transpose; }
// The smaller Gram matrix by a plain product, of `count` matrices.
void plain_gram(core::Queue& queue, std::int64_t count, const core::StridedBatch& x, const core::StridedBatch& out);
inline void plain_gram(core::Queue& queue, const core::MatrixView& x, const core::MatrixView& out) {
  plain_gram(queue, 1, {x}, {out});
}

}  // namespace muonp::optim::spectral
