#include "optim/rules/soap.h"

#include <cmath>
#include <vector>

#include "core/device/for_each.h"
#include "optim/rules/eigenbasis.h"
#include "optim/rules/momentum.h"

namespace muonp::optim {

using core::Op;
using core::Tensor;

namespace {

// v ← b2·v + a2·g², x ← own·x/(root·√v + eps)
struct AdamInBasis {
  float *v, *x;
  const float* g;
  float b2, a2, own, root, eps;
  using Elements = core::ElementArrays<&AdamInBasis::v, &AdamInBasis::x, &AdamInBasis::g>;
  MUONP_HD void operator()(std::int64_t i) const {
    const float square = b2 * v[i] + a2 * g[i] * g[i];
    v[i] = square;
    const float denominator = root * sqrtf(square) + eps;
    x[i] = denominator > 0 || denominator != denominator ? own * x[i] / denominator : 0.0f;
  }
};

constexpr std::size_t kM = 0, kV = 1;  // places of states; then for each side that may turn its Gram matrix and its basis

class SoapStep final : public OwnerStep {
 public:
  explicit SoapStep(const Soap& rule) : OwnerStep(rule.states_of(Home::owner)), rule_(rule) {}

 protected:
  void finish(core::Device& device, const OwnedBatch& b) const override {
    core::Queue& queue = device.queue();
    const std::int64_t t = b.facts.step;
    learn(queue, b);
    if (t == 1) return b.out.zero(queue);
    accumulate(queue, rule_.beta1.at(t), b.states[kM], 1 - rule_.beta1.at(t), b.in);
    const auto matrices = [&] {
      return Tensor::empty(device, b.in.shape(), core::Dtype::float32, core::Category::exchange);
    };
    const Tensor gradient = matrices(), x = matrices(), half = matrices();
    rotate(queue, b, b.in, half, gradient, Turn::into);
    rotate(queue, b, b.states[kM], half, x, Turn::into);
    precondition(queue, b, gradient, x);
    rotate(queue, b, x, half, b.out, Turn::back);
    if (t % rule_.frequency == 0) turn_bases(queue, b);
  }
  double flops(std::int64_t rows, std::int64_t cols) const override {
    return 4 * (core::gemm_flops(rows, cols, rows) + core::gemm_flops(rows, cols, cols));
  }
  std::int64_t scratch_bytes(std::int64_t rows, std::int64_t cols) const override { return 12 * rows * cols; }

 private:
  void precondition(core::Queue& queue, const OwnedBatch& b, const Tensor& gradient, const Tensor& x) const {
    const std::int64_t t = b.facts.step;
    const double b1 = rule_.beta1.at(t), b2 = rule_.beta2.at(t);
    const auto narrow = [](double value) { return static_cast<float>(value); };
    core::for_each(queue, x.size(),
                   AdamInBasis{.v = b.states[kV].data<float>(),
                               .x = x.data<float>(),
                               .g = gradient.data<float>(),
                               .b2 = narrow(b2),
                               .a2 = narrow(1 - b2),
                               .own = narrow(1 / bias_correction(b1, t - 1)),
                               .root = narrow(1 / std::sqrt(bias_correction(b2, t - 1))),
                               .eps = narrow(rule_.eps)});
  }
  // What turns of a matrix.
  struct Turning {
    Side side;
    Tensor gram, basis;
  };
  std::vector<Turning> turning(const OwnedBatch& b) const {
    std::vector<Turning> all;
    const auto add = [&](Side side, std::size_t state) {
      if (b.states[state].size() > 0) all.push_back({side, b.states[state], b.states[state + 1]});
    };
    add(!rule_.one_sided || b.rows() <= b.cols() ? Side::rows : Side::columns, 2);
    if (!rule_.one_sided) add(Side::columns, 4);
    return all;
  }
  // `half`: memory of its own.
  void rotate(core::Queue& queue, const OwnedBatch& b, const Tensor& x, const Tensor& half, const Tensor& to,
              Turn turn) const {
    const std::vector<Turning> sides = turning(b);
    if (sides.empty()) return to.copy_from(queue, x);
    for (std::size_t s = 0; s < sides.size(); ++s) {
      const auto by = sides[s].side == Side::rows ? rotate_rows : rotate_columns;
      by(queue, sides[s].basis, s == 0 ? x : half, s + 1 == sides.size() ? to : half, turn);
    }
  }
  // L and R; at the first step the bases too.
  void learn(core::Queue& queue, const OwnedBatch& b) const {
    const auto beta = static_cast<float>(rule_.shampoo_beta);
    for (const Turning& of : turning(b)) {
      const bool rows = of.side == Side::rows;
      core::gemm_batched(queue, b.count(), rows ? Op::none : Op::transpose, rows ? Op::transpose : Op::none, 1 - beta,
                         dense(b.in), dense(b.in), beta, dense(of.gram));
      for (std::int64_t i = 0; i < b.count() && b.facts.step == 1; ++i)
        gram_eigenvectors(queue, b.in[i], of.side, of.basis[i], b.parameter);
    }
  }
  void turn_bases(core::Queue& queue, const OwnedBatch& b) const {
    for (const Turning& of : turning(b))
      for (std::int64_t i = 0; i < b.count(); ++i) follow_eigenvectors(queue, of.gram[i], of.basis[i], b.parameter);
  }

  Soap rule_;
};

}  // namespace

void Soap::describe(core::Fields& f) {
  f.step_value("beta1", beta1, {.min = 0, .max = 1}, "decay of the mean of gradients, below 1");
  f.step_value("beta2", beta2, {.min = 0, .max = 1}, "decay of the mean of squared rotated gradients, below 1");
  f.real("shampoo_beta", shampoo_beta, {.min = 0, .max = 1}, "decay of the two Gram matrices");
  f.real("eps", eps, {.min = 0}, "added to the root of the mean of squares");
  f.integer("frequency", frequency, {.min = 1}, "steps between two steps of the eigenvectors");
  f.boolean("one_sided", one_sided, "rotate the smaller side only");
  f.integer("max_dimension", max_dimension, {.min = 1}, "longer sides are not rotated, and keep no Gram matrix");
}

void Soap::validate(const std::string& path) const {
  require_below_one(path, "beta1", beta1);
  require_below_one(path, "beta2", beta2);
  require_below_one(path, "shampoo_beta", shampoo_beta);
}

std::vector<StateSpec> Soap::states() const {
  const auto owned = [this](const char* name, Form form) {
    return StateSpec{.name = name, .form = form, .home = Home::owner, .longest = max_dimension};
  };
  const StateSpec m = owned("m", Form::elements), v = owned("v", Form::elements);
  if (one_sided) return {m, v, owned("gram", Form::square), owned("basis", Form::square)};
  return {m,
          v,
          owned("left", Form::row_square),
          owned("left_basis", Form::row_square),
          owned("right", Form::column_square),
          owned("right_basis", Form::column_square)};
}

std::unique_ptr<MatrixStep> Soap::matrix_step(core::DeviceKind) const { return std::make_unique<SoapStep>(*this); }

}  // namespace muonp::optim
