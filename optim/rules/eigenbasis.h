// Frames of eigenvectors, for rules that rotate gradients into them. A basis is kept as B = Qᵀ: row j of B [n, n] is
// eigenvector j. Decompositions are the host's, in double precision; rotations are products on the device.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/device/blas.h"
#include "core/device/tensor.h"

namespace muonp::optim {

enum class Turn : std::uint8_t { into, back };

enum class Side : std::uint8_t { rows, columns };

// B of the eigenvectors of XXᵀ (rows) or XᵀX (columns), by falling eigenvalues, all in double precision: of a Gram matrix
// rounded to float32 those of small singular values would be noise. Error that names the parameter where there are none.
void gram_eigenvectors(core::Queue& queue, const core::Tensor& x, Side side, const core::Tensor& basis,
                       std::string_view parameter);
// One step of power iteration: B becomes that of the orthonormal factor of A·Q, for the symmetric A [n, n]. Vectors of large
// eigenvalues come first and are followed best.
void follow_eigenvectors(core::Queue& queue, const core::Tensor& a, const core::Tensor& basis, std::string_view parameter);

// to = B·X (into) or Bᵀ·X (back) of every matrix: B [count, rows, rows], X and to [count, rows, cols].
void rotate_rows(core::Queue& queue, const core::Tensor& basis, const core::Tensor& x, const core::Tensor& to, Turn turn);
// to = X·Bᵀ (into) or X·B (back): B [count, cols, cols].
void rotate_columns(core::Queue& queue, const core::Tensor& basis, const core::Tensor& x, const core::Tensor& to, Turn turn);
// rotate_rows() where rows <= cols, otherwise rotate_columns().
void rotate_smaller_side(core::Queue& queue, const core::Tensor& basis, const core::Tensor& x, const core::Tensor& to,
                         Turn turn);

}  // namespace muonp::optim
