#include "optim/rules/eigenbasis.h"

#include <algorithm>
#include <vector>

#include "core/base/index.h"
#include "core/base/math.h"
#include "core/device/host_view.h"
#include "core/device/lapack.h"
#include "optim/rules/owner_step.h"

namespace muonp::optim {

using core::HostView;
using core::Op;
using core::Tensor;

void gram_eigenvectors(core::Queue& queue, const Tensor& x, Side side, const Tensor& basis, std::string_view parameter) {
  const std::int64_t n = basis.dim(0), k = x.size() / n;
  std::vector<double> matrix, gram(core::at(n * n)), values(core::at(n));
  {
    const HostView host(queue, x, core::Access::read);
    matrix.assign(host.span<float>().begin(), host.span<float>().end());
  }
  // To LAPACK, which goes by columns, X is Xᵀ.
  const bool of_rows = side == Side::rows;
  core::lapack::dgemm(of_rows, !of_rows, core::to_int(n), core::to_int(n), core::to_int(k), matrix.data(), matrix.data(),
                      gram.data());
  if (const int info = core::lapack::dsyev(core::to_int(n), gram.data(), values.data()); info != 0)
    core::fail("parameter {}: a Gram matrix of {} rows has no eigenvectors (LAPACK's info {})", parameter, n, info);
  const HostView to(queue, basis, core::Access::write);  // LAPACK's columns are rows here, and its last is of the largest
  for (std::int64_t row = 0; row < n; ++row)
    for (std::int64_t i = 0; i < n; ++i)
      to.data<float>()[row * n + i] = static_cast<float>(gram[core::at((n - 1 - row) * n + i)]);
  to.upload();
}

// B·A row by row is A·Q column by column, since A is symmetric.
void follow_eigenvectors(core::Queue& queue, const Tensor& a, const Tensor& basis, std::string_view parameter) {
  const std::int64_t n = a.dim(0);
  const Tensor moved = Tensor::empty(queue.device(), {n, n}, core::Dtype::float32, core::Category::exchange);
  core::gemm(queue, Op::none, Op::none, 1, core::MatrixView(basis), core::MatrixView(a), 0, core::MatrixView(moved));
  std::vector<double> q;
  {
    const HostView host(queue, moved, core::Access::read);
    q.assign(host.span<float>().begin(), host.span<float>().end());
  }
  if (const int info = core::lapack::orthonormalize(core::to_int(n), core::to_int(n), q.data()); info != 0)
    core::fail("parameter {}: a basis of {} vectors has no QR factorisation (LAPACK's info {})", parameter, n, info);
  const HostView to(queue, basis, core::Access::write);
  std::ranges::transform(q, to.data<float>(), [](double x) { return static_cast<float>(x); });
  to.upload();
}

void rotate_rows(core::Queue& queue, const Tensor& basis, const Tensor& x, const Tensor& to, Turn turn) {
  const Op op = turn == Turn::into ? Op::none : Op::transpose;
  core::gemm_batched(queue, x.dim(0), op, Op::none, 1, dense(basis), dense(x), 0, dense(to));
}

void rotate_columns(core::Queue& queue, const Tensor& basis, const Tensor& x, const Tensor& to, Turn turn) {
  const Op op = turn == Turn::into ? Op::transpose : Op::none;
  core::gemm_batched(queue, x.dim(0), Op::none, op, 1, dense(x), dense(basis), 0, dense(to));
}

void rotate_smaller_side(core::Queue& queue, const Tensor& basis, const Tensor& x, const Tensor& to, Turn turn) {
  if (x.dim(1) <= x.dim(2)) return rotate_rows(queue, basis, x, to, turn);
  rotate_columns(queue, basis, x, to, turn);
}

}  // namespace muonp::optim
