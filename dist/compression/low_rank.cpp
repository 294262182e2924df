// A matrix of rank R near X by one step of subspace iteration (PowerSGD, arXiv 1905.13727), warm-started: with B = X, or Xᵀ
// where X is wide (B has l rows and s ≤ l columns) and V what the last message left,
//   U = orth(B V),   W = Bᵀ U,   C(X) = U Wᵀ, or its transpose.
// What is left of a residual after a message is orthogonal to U, so a warm start may miss it altogether. Then, and whenever
// ‖W‖² falls below R/s of ‖X‖², the step is taken again from the R longest columns of B, which hold that much (and a step
// of subspace iteration only adds to it): hence α = R/s.
//
// The message: U [l, R], then W [s, R], float32.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/index.h"
#include "core/base/rng.h"
#include "core/device/blas.h"
#include "core/device/for_each.h"
#include "core/device/host_view.h"
#include "core/device/lapack.h"
#include "dist/compression/kinds.h"

namespace muonp::dist::compression {

using core::Category;
using core::Dtype;
using core::HostView;
using core::MatrixView;
using core::Op;
using core::Tensor;

namespace {

struct RandomStart {  // uniform on (−1/2, 1/2): no function whose last bit depends on how a loop is cut
  CompressionKey key;
  float* to;
  MUONP_HD void operator()(std::int64_t i) const {
    const std::uint64_t stream = key.step << 20 | static_cast<std::uint64_t>(key.rank);
    to[i] = core::uniform(key.matrix, stream, static_cast<std::uint64_t>(i)) - 0.5f;
  }
};

struct RowSquares {
  const float* x;
  double* sums;
  MUONP_ROW_KERNEL void operator()(const R& row) const {
    sums[row.index] = row.sum([](float a) { return static_cast<double>(a) * a; }, x + row.index * row.cols);
  }
};

struct ColumnSquares {  // of X over its norm: float32 holds the sums
  static constexpr int kSums = 1;
  const float* x;
  std::int64_t cols;
  float scale;
  MUONP_COLUMN_KERNEL auto row(std::int64_t r, const Use& use) const {
    const float by = scale;
    return use([=](float value, float& sum) { sum += by * value * (by * value); }, x + r * cols);
  }
};

struct Scaled {
  const float* from;
  float* to;
  float factor;
  MUONP_HD void operator()(std::int64_t i) const { to[i] = factor * from[i]; }
};

struct Blend {  // out = weight·value, or out + that
  const float* value;
  float* out;
  float weight;
  bool add;
  MUONP_HD void operator()(std::int64_t i) const {
    const float x = weight * value[i];
    out[i] = add ? out[i] + x : x;
  }
};

// V with Vᵀ K V = I on the span that K = BᵀB (n × n, symmetric) says is there; zero columns elsewhere.
void whitening(std::vector<float>& k, std::int64_t n) {
  std::vector<double> a(k.begin(), k.end()), values(static_cast<std::size_t>(n));
  const int info = core::lapack::dsyev(static_cast<int>(n), a.data(), values.data());  // vector c is a's row c
  if (info != 0) core::fail("LAPACK's dsyev failed with {} on the {} columns of a low-rank message", info, n);
  const double least = values.back() * static_cast<double>(n) * 0x1p-22;
  for (std::int64_t r = 0; r < n; ++r)
    for (std::int64_t c = 0; c < n; ++c) {
      const double value = values[core::at(c)];
      const auto at = static_cast<std::size_t>(r * n + c);
      k[at] = value > least && value > 0 ? static_cast<float>(a[core::at(c * n + r)] / std::sqrt(value)) : 0.0f;
    }
}

// 1/√x, within float32's range for the squared norm of any matrix.
float inverse_root(double x) { return static_cast<float>(std::min(1 / std::sqrt(x), 1e38)); }

class LowRank final : public Compressor {
 public:
  LowRank(std::int64_t rows, std::int64_t cols, std::int64_t rank)
      : Compressor(rows, cols), long_(std::max(rows, cols)), short_(std::min(rows, cols)), rank_(std::min(rank, short_)) {}

  double alpha() const override { return static_cast<double>(rank_) / static_cast<double>(short_); }
  std::int64_t wire_bytes() const override { return 4 * rank_ * (long_ + short_); }
  std::int64_t state_elements() const override { return short_ * rank_; }
  std::int64_t workspace_bytes() const override {
    return 4 * std::max(std::max(long_ * rank_ + rank_ * rank_, cols()), size());
  }

  void encode(core::Device& device, const Tensor& x, const Tensor& state, const CompressionKey& key,
              const Tensor& wire) const override {
    core::Queue& queue = device.queue();
    const Tensor u = part(wire, 0, long_), w = part(wire, 4 * long_ * rank_, short_);
    const Tensor basis = state.view({short_, rank_});
    const std::vector<double> rows_squared = row_squares(queue, MatrixView(x.raw(), rows(), cols(), cols()));
    const double total = sum_of(rows_squared);
    if (total == 0) return wire.zero(queue);
    const float scale = inverse_root(total);
    if (sum_of(row_squares(queue, MatrixView(basis))) == 0)
      core::for_each(queue, basis.size(), RandomStart{key, basis.data<float>()});
    // Rounding moves ‖W‖² by far less than the part in ten thousand that is asked for on top.
    double held = iterate(device, x, scale, basis, u, w);
    if (held < 1.0001 * alpha() * total) {
      choose(queue, longest(wide() ? rows_squared : column_squares(device, x, scale)), basis);
      held = iterate(device, x, scale, basis, u, w);
    }
    core::for_each(queue, w.size(), Scaled{w.data<float>(), basis.data<float>(), inverse_root(held)});
  }

  void decode(core::Device& device, const Tensor& wire, float weight, bool add, const Tensor& out) const override {
    const Tensor u = part(wire, 0, long_), w = part(wire, 4 * long_ * rank_, short_);
    const Tensor x = Tensor::empty(device, {rows(), cols()}, Dtype::float32, Category::exchange);
    const Tensor &left = wide() ? w : u, &right = wide() ? u : w;
    core::gemm_on_one_thread(device.queue(), Op::none, Op::transpose, 1, MatrixView(left), MatrixView(right), 0,
                             MatrixView(x));
    core::for_each(device.queue(), size(), Blend{x.data<float>(), out.data<float>(), weight, add});
  }

 private:
  bool wide() const { return rows() < cols(); }

  // [count, rank] floats of a message from byte `begin` on.
  Tensor part(const Tensor& wire, std::int64_t begin, std::int64_t count) const {
    return Tensor::borrow(wire.data<std::uint8_t>() + begin, {count, rank_}, Dtype::float32);
  }

  static double sum_of(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

  static std::vector<double> row_squares(core::Queue& queue, const MatrixView& x) {
    core::HostResult<double> sums(queue, x.rows);
    core::for_each_row(queue, x.rows, x.cols, RowSquares{static_cast<const float*>(x.data), sums.to_write()});
    return sums.read();
  }

  std::vector<double> column_squares(core::Device& device, const Tensor& x, float scale) const {
    const Tensor sums = Tensor::empty(device, {cols()}, Dtype::float32, Category::exchange);
    core::column_sums(device.queue(), rows(), cols(), {{{sums.data<float>(), false}}},
                      ColumnSquares{x.data<float>(), cols(), scale});
    const HostView host(device.queue(), sums, core::Access::read);
    return {host.data<float>(), host.data<float>() + cols()};
  }

  // The columns of B that are longest, `rank_` of them.
  std::vector<std::int64_t> longest(const std::vector<double>& squares) const {
    std::vector<std::int64_t> order(squares.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int64_t a, std::int64_t b) { return squares[core::at(a)] > squares[core::at(b)]; });
    order.resize(static_cast<std::size_t>(rank_));
    return order;
  }

  // V ← their unit vectors.
  void choose(core::Queue& queue, const std::vector<std::int64_t>& columns, const Tensor& basis) const {
    const HostView host(queue, basis, core::Access::write);
    std::ranges::fill(host.span<float>(), 0.0f);
    for (std::int64_t r = 0; r < rank_; ++r) host.data<float>()[columns[core::at(r)] * rank_ + r] = 1;
    host.upload();
  }

  // U and W from V, with X scaled on the way to U so that no square leaves float32; returns ‖W‖².
  double iterate(core::Device& device, const Tensor& x, float scale, const Tensor& basis, const Tensor& u,
                 const Tensor& w) const {
    core::Queue& queue = device.queue();
    const MatrixView b(x.raw(), rows(), cols(), cols());
    const Tensor scratch = Tensor::empty(device, {long_, rank_}, Dtype::float32, Category::exchange);
    core::gemm_on_one_thread(queue, wide() ? Op::transpose : Op::none, Op::none, scale, b, MatrixView(basis), 0,
                             MatrixView(scratch));
    orthonormalize(device, scratch, u);
    orthonormalize(device, u, scratch);  // what float32 left of the first time
    u.copy_from(queue, scratch);
    core::gemm_on_one_thread(queue, wide() ? Op::none : Op::transpose, Op::none, 1, b, MatrixView(u), 0, MatrixView(w));
    return sum_of(row_squares(queue, MatrixView(w)));
  }

  // to: orthonormal columns with the span of those of `from`; those that are missing are zero.
  void orthonormalize(core::Device& device, const Tensor& from, const Tensor& to) const {
    core::Queue& queue = device.queue();
    const Tensor gram = Tensor::empty(device, {rank_, rank_}, Dtype::float32, Category::exchange);
    core::gemm_on_one_thread(queue, Op::transpose, Op::none, 1, MatrixView(from), MatrixView(from), 0, MatrixView(gram));
    const HostView host(queue, gram, core::Access::read_write);
    std::vector<float> values(host.span<float>().begin(), host.span<float>().end());
    whitening(values, rank_);
    std::ranges::copy(values, host.data<float>());
    host.upload();
    core::gemm_on_one_thread(queue, Op::none, Op::none, 1, MatrixView(from), MatrixView(gram), 0, MatrixView(to));
  }

  std::int64_t long_, short_, rank_;
};

}  // namespace

std::unique_ptr<Compressor> make_low_rank(std::int64_t rows, std::int64_t cols, std::int64_t rank) {
  return std::make_unique<LowRank>(rows, cols, rank);
}

}  // namespace muonp::dist::compression
