#include "optim/rules/specmuon.h"

#include <algorithm>
#include <cmath>

#include "core/base/index.h"
#include "core/base/math.h"
#include "core/base/rng.h"
#include "core/device/host_view.h"
#include "core/device/lapack.h"
#include "optim/rules/momentum.h"
#include "optim/rules/muonp.h"
#include "optim/spectral/gradient_norm.h"

namespace muonp::optim {

using core::at;
using core::HostView;
using core::MatrixView;
using core::Op;
using core::Tensor;

namespace {

using Doubles = std::vector<double>;

Doubles read(core::Queue& queue, const Tensor& x) {
  const HostView host(queue, x, core::Access::read);
  return {host.span<float>().begin(), host.span<float>().end()};
}
void write(core::Queue& queue, const Tensor& to, const Doubles& x) {
  const HostView host(queue, to, core::Access::write);
  std::ranges::transform(x, host.data<float>(), [](double v) { return static_cast<float>(v); });
  host.upload();
}

// Rows of [k, n] made orthonormal: to LAPACK, which goes by columns, they are its columns.
void orthonormal_rows(core::Queue& queue, const Tensor& x, std::string_view parameter) {
  Doubles host = read(queue, x);
  if (const int info = core::lapack::orthonormalize(core::to_int(x.dim(1)), core::to_int(x.dim(0)), host.data()); info != 0)
    core::fail("parameter {}: a block of {} vectors has no QR factorisation (LAPACK's info {})", parameter, x.dim(0), info);
  write(queue, x, host);
}

// Of G [m, n] the k leading modes: left [k, m] and right [k, n] singular vectors, rows, and the singular values.
struct Modes {
  Tensor left, right;
  Doubles sigma;
};

Modes leading_modes(core::Device& device, const Tensor& g, std::int64_t k, std::int64_t steps, std::string_view parameter) {
  core::Queue& queue = device.queue();
  const std::int64_t m = g.dim(0), n = g.dim(1);
  Modes modes{Tensor::empty(device, {k, m}, core::Dtype::float32, core::Category::exchange),
              Tensor::empty(device, {k, n}, core::Dtype::float32, core::Category::exchange), Doubles(at(k))};
  Doubles start(at(k * n));
  for (std::int64_t i = 0; i < k * n; ++i) start[at(i)] = core::normal(0, 0, static_cast<std::uint64_t>(i));
  write(queue, modes.right, start);
  orthonormal_rows(queue, modes.right, parameter);
  const MatrixView matrix(g), left(modes.left), right(modes.right);
  for (std::int64_t i = 0; i < steps; ++i) {  // V ← orthonormal GᵀG V
    core::gemm_on_one_thread(queue, Op::none, Op::transpose, 1, right, matrix, 0, left);
    core::gemm_on_one_thread(queue, Op::none, Op::none, 1, left, matrix, 0, right);
    orthonormal_rows(queue, modes.right, parameter);
  }
  core::gemm_on_one_thread(queue, Op::none, Op::transpose, 1, right, matrix, 0, left);  // (G V)ᵀ
  // To LAPACK (G V)ᵀ is G V [m, k] = U S Wᵀ, so that u_j are columns of U, and v_j those of V W.
  Doubles gv = read(queue, modes.left), u(at(m * k)), wt(at(k * k)), v(at(n * k));
  if (const int info =
          core::lapack::dgesdd(core::to_int(m), core::to_int(k), gv.data(), modes.sigma.data(), u.data(), wt.data());
      info != 0)
    core::fail("parameter {}: its leading modes have no singular values (LAPACK's info {})", parameter, info);
  const Doubles basis = read(queue, modes.right);
  core::lapack::dgemm(false, true, core::to_int(n), core::to_int(k), core::to_int(k), basis.data(), wt.data(), v.data());
  write(queue, modes.left, u);
  write(queue, modes.right, v);
  return modes;
}

class SpecMuonStep final : public OwnerStep {
 public:
  explicit SpecMuonStep(const SpecMuon& rule) : OwnerStep(rule.states_of(Home::owner)), rule_(rule) {}

 protected:
  void finish(core::Device& device, const OwnedBatch& b) const override {
    for (std::int64_t i = 0; i < b.count(); ++i) one(device, b, b.in[i], b.out[i], b.states[0][i]);
  }
  double flops(std::int64_t rows, std::int64_t cols) const override {
    return core::gemm_flops(rows, cols, modes(rows, cols)) * static_cast<double>(2 * rule_.power_steps + 2);
  }
  std::int64_t scratch_bytes(std::int64_t rows, std::int64_t cols) const override {
    return 4 * modes(rows, cols) * (rows + cols);
  }

 private:
  std::int64_t modes(std::int64_t rows, std::int64_t cols) const { return std::min({rule_.modes, rows, cols}); }

  void one(core::Device& device, const OwnedBatch& b, const Tensor& g, const Tensor& out, const Tensor& auxiliary) const {
    core::Queue& queue = device.queue();
    const SquareSum squares = sum_of_squares(queue, g);
    if (!squares.finite) core::fail("parameter {}: the momentum is not finite", b.parameter);
    if (squares.sum == 0) return out.zero(queue);
    const auto rows = static_cast<double>(b.rows()), cols = static_cast<double>(b.cols());
    const Modes of = leading_modes(device, g, modes(b.rows(), b.cols()), rule_.power_steps, b.parameter);
    weigh(queue, of, std::sqrt(squares.sum), b.facts, auxiliary);
    core::gemm(queue, Op::transpose, Op::none, static_cast<float>(std::sqrt(std::max(1.0, rows / cols))),
               MatrixView(of.left), MatrixView(of.right), 0, MatrixView(out));
  }
  // Each u_j by its weight.
  void weigh(core::Queue& queue, const Modes& of, double norm, const StepFacts& facts, const Tensor& auxiliary) const {
    if (!(facts.loss + rule_.shift > 0))
      core::fail("specmuon: the loss {} plus shift {} is not positive: choose a larger shift", facts.loss, rule_.shift);
    const double q = std::sqrt(facts.loss + rule_.shift);
    const HostView r(queue, auxiliary, core::Access::read_write), left(queue, of.left, core::Access::read_write);
    for (std::int64_t j = 0; j < std::ssize(of.sigma); ++j) {
      float& aux = r.data<float>()[j];
      const double before = aux == 0 ? q : aux, sigma = of.sigma[at(j)] / norm;
      const double moved = before / (1 + facts.lr * sigma * sigma / (2 * q * q));
      aux = static_cast<float>(rule_.xi * moved + (1 - rule_.xi) * q);
      for (float& x : left.span<float>().subspan(at(j * of.left.dim(1)), at(of.left.dim(1))))
        x = static_cast<float>(moved / q * x);
    }
    r.upload();
    left.upload();
  }

  SpecMuon rule_;
};

}  // namespace

void SpecMuon::describe(core::Fields& f) {
  f.step_value("momentum", momentum, {.min = 0, .max = 1}, "momentum factor, below 1");
  f.integer("modes", modes, {.min = 1, .max = 1024}, "leading singular directions that move");
  f.integer("power_steps", power_steps, {.min = 1, .max = 100}, "block power steps that find them");
  f.real("xi", xi, {.min = 0, .max = 1}, "how far an auxiliary variable keeps its own value");
  f.real("shift", shift, {.min = 0}, "added to the loss, so that it is positive");
}

void SpecMuon::validate(const std::string& path) const { require_below_one(path, "momentum", momentum); }

std::vector<StateSpec> SpecMuon::states() const {
  // Of a matrix' rows the first k have a number.
  return {{.name = "momentum", .content = Content::moment}, {.name = "auxiliary", .form = Form::rows, .home = Home::owner}};
}

Direction SpecMuon::direction(core::Queue& queue, const StepFacts& facts, const GradientSum& gradient,
                              std::span<const Tensor> states) const {
  muonp_momentum(queue, {momentum.at(facts.step), true, false}, facts.gradient_scale, gradient.values, states[0]);
  return {gradient.values};
}

std::unique_ptr<MatrixStep> SpecMuon::matrix_step(core::DeviceKind) const { return std::make_unique<SpecMuonStep>(*this); }

}  // namespace muonp::optim
