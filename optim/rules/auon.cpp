#include "optim/rules/auon.h"

#include <algorithm>
#include <cmath>

#include "core/base/math.h"
#include "core/device/for_each.h"
#include "core/device/symmetric.h"
#include "optim/spectral/elementwise.h"
#include "optim/spectral/scales.h"

namespace muonp::optim {

using core::Tensor;

namespace {

constexpr float kA = 3.4445f, kB = -4.7750f, kC = 2.0315f;  // of a step of Newton and Schulz (Jordan 2024)

// 1/‖N‖_F of each matrix, 0 of a zero one; in place of the squares.
struct InverseNorm {
  double* squares;
  MUONP_HD void operator()(std::int64_t i) const { squares[i] = squares[i] == 0 ? 0.0 : 1 / sqrt(squares[i]); }
};

struct Cosh {
  const float* x;
  float* out;
  float gamma;
  MUONP_HD void operator()(std::int64_t i) const {
    const float e = core::math::exp(gamma * x[i]);
    out[i] = (e + 1 / e) / 2;
  }
};

struct Divisor {  // scale over the root of the mean square of cosh, in place of the sum of squares
  double* sums;
  double elements, scale;
  MUONP_HD void operator()(std::int64_t i) const { sums[i] = scale / sqrt(sums[i] / elements); }
};

class AuONStep final : public OwnerStep {
 public:
  AuONStep(double gamma, bool hybrid) : OwnerStep({}), gamma_(gamma), hybrid_(hybrid) {}

 protected:
  void finish(core::Device& device, const OwnedBatch& b) const override {
    core::Queue& queue = device.queue();
    const Tensor memory = spectral::numbers(device, b.count());
    auto* numbers = static_cast<double*>(memory.raw());
    const Tensor other = Tensor::empty(device, b.out.shape(), core::Dtype::float32, core::Category::exchange);
    spectral::sums_of_squares(queue, b.count(), dense(b.in), numbers);
    core::for_each(queue, b.count(), InverseNorm{numbers});
    const Tensor& normalized = hybrid_ ? other : b.out;
    normalized.copy_from(queue, b.in);
    spectral::multiply_by(queue, b.count(), dense(normalized), numbers);
    if (hybrid_) newton_schulz(device, b, normalized);
    core::for_each(queue, b.out.size(), Cosh{b.out.data<float>(), other.data<float>(), static_cast<float>(gamma_)});
    spectral::sums_of_squares(queue, b.count(), dense(other), numbers);
    const auto rows = static_cast<double>(b.rows()), cols = static_cast<double>(b.cols());
    core::for_each(queue, b.count(), Divisor{numbers, rows * cols, std::sqrt(std::max(1.0, rows / cols))});
    spectral::multiply_by(queue, b.count(), dense(b.out), numbers);
  }
  double flops(std::int64_t rows, std::int64_t cols) const override {
    const std::int64_t n = std::min(rows, cols), k = std::max(rows, cols);
    const double products = hybrid_ ? 2 * core::gemm_flops(n, n, k) + core::gemm_flops(n, n, n) : 0;
    return 8 * static_cast<double>(rows * cols) + products;
  }
  std::int64_t scratch_bytes(std::int64_t rows, std::int64_t cols) const override {
    const std::int64_t n = std::min(rows, cols);
    return 4 * rows * cols + 8 + (hybrid_ ? 8 * n * n : 0);
  }

 private:
  // out = X·(a I + b A + c A²), A = XᵀX, on the smaller side.
  static void newton_schulz(core::Device& device, const OwnedBatch& b, const Tensor& x) {
    core::Queue& queue = device.queue();
    const core::Shape square = {b.count(), b.side(), b.side()};
    const Tensor gram = Tensor::empty(device, square, core::Dtype::float32, core::Category::exchange);
    const Tensor weight = Tensor::empty(device, square, core::Dtype::float32, core::Category::exchange);
    spectral::plain_gram(queue, b.count(), dense(x), dense(gram));
    core::gemm_batched(queue, b.count(), core::Op::none, core::Op::none, 1, dense(gram), dense(gram), 0, dense(weight));
    spectral::affine(queue, b.count(), kA, kC, dense(weight), kB, dense(gram).first);
    spectral::multiply_small(queue, b.count(), 1, dense(x), dense(weight), 0, dense(b.out));
  }

  double gamma_;
  bool hybrid_;
};

}  // namespace

void AuON::describe(core::Fields& f) {
  f.step_value("momentum", momentum, {.min = 0, .max = 1}, "momentum factor, below 1");
  f.real("gamma", gamma, {.min = 0, .max = 10}, "factor in cosh(gamma G/|G|)");
  f.boolean("hybrid", hybrid, "one step of Newton and Schulz first");
}

void AuON::validate(const std::string& path) const { require_below_one(path, "momentum", momentum); }

Direction AuON::direction(core::Queue& queue, const StepFacts& facts, const GradientSum& gradient,
                          std::span<const Tensor> states) const {
  muonp_momentum(queue, {momentum.at(facts.step), false, true}, facts.gradient_scale, gradient.values, states[0]);
  return {gradient.values};
}

std::unique_ptr<MatrixStep> AuON::matrix_step(core::DeviceKind) const { return std::make_unique<AuONStep>(gamma, hybrid); }

}  // namespace muonp::optim
