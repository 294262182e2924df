// The coupled minimax recurrence (docs/numerics.md), p = (h − m)/h. With σ of G scaled into [0, 1] and A =
// YᵀY:
//   W = w_k(A)     Y ← Y·Wʰ → U Vᵀ     Z ← Z·Wᵐ → U Sᵖ Vᵀ
// A and the running product T of the Wᵐ live on the small side; products of the commuting symmetric matrices
// there cost half. The polar case p = 0 has Y = Z; its steps are those of Polar Express (arXiv 2505.16932).
// This is float32's; storage with fewer bits has steps of its own (narrow_steps.h).
#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "core/base/index.h"
#include "core/base/math.h"
#include "core/base/remember.h"
#include "core/device/symmetric.h"
#include "optim/spectral/bound.h"
#include "optim/spectral/elementwise.h"
#include "optim/spectral/methods.h"
#include "optim/spectral/narrow_power.h"
#include "optim/spectral/per_matrix.h"
#include "optim/spectral/polynomial.h"
#include "optim/spectral/products.h"
#include "optim/spectral/scales.h"
#include "optim/spectral/schedule.h"
#include "optim/spectral/scratch.h"

namespace muonp::optim::spectral {
namespace {

using core::MatrixView;
using core::StridedBatch;
using core::SymmetricForm;

// A, T, Wᵐ, W and two that are being written; an octic has one factor more.
int small_matrices(const Schedule& schedule) { return std::ranges::count(schedule.degrees, 8) > 0 ? 7 : 6; }

// How many matrices of G's shape are alive at once: Y and what Z is made from, and the product that replaces
// one.
int long_matrices(const Schedule& schedule, Exponent p) {
  if (schedule.restarts == 0) return 1;
  if (p.h() == p.m()) return 2;
  return schedule.restarts == 1 ? 2 : 3;
}

// Of one matrix, or of this rank's share of one, whose products know which, with a scale that the host finds; or of all
// matrices of a batch on a GPU, which take each step together and whose scales stay on the device.
class Recurrence {
 public:
  // g: `count` matrices of float32; of one the host may find the scale.
  Recurrence(core::Device& device, std::int64_t count, Exponent p, const Schedule& schedule, const StridedBatch& g,
             Products& products)
      : queue_(device.queue()),
        products_(products),
        scratch_(device, core::Dtype::float32),
        count_(count),
        p_(p),
        schedule_(schedule),
        g_(g),
        n_(products.side()) {
    for (StridedBatch* small : {&gram_, &product_, &left_, &power_, &next_, &spare_})
      *small = scratch_.matrices(count, n_, n_);
    if (small_matrices(schedule) == 7) right_ = scratch_.matrices(count, n_, n_);
  }

  // Of one matrix: z = gain(scale)·U Sᵖ Vᵀ of G·factor/scale; returns the scale.
  template <class Gain>
  double run(double factor, const MatrixView& z, const Gain& gain) {
    source_ = y_ = take();
    copy_scaled(queue_, g_.first, factor, y_.first);
    rebuild_gram();
    multiply(gram_, gram_, next_);
    const auto [trace, aa, ab, bb] = core::symmetric_moments(queue_, gram_.first, next_.first);
    const double highest = eigenvalue_bound(n_, {trace, aa, ab, bb});
    scale_ = std::sqrt(highest);
    take_steps(highest);
    multiply_long(gain(scale_) / (divided_ ? 1 : scale_), source_, product_, {z});
    return scale_;
  }

  // z = U Sᵖ Vᵀ of every G. What the long matrices are to be multiplied by is put into the small ones, which are shorter.
  void run(Scales& scales, const StridedBatch& z) {
    scales_ = &scales;
    source_ = y_ = take();
    scales.find_factor(g_);
    scales.copy_by_factor(g_, 1, y_);
    rebuild_gram();
    multiply(gram_, gram_, next_);
    scales.find_scale(gram_, next_);
    take_steps(1);
    scales.gain(p_.value(), product_, !divided_);
    multiply_long(1, source_, product_, z);
  }

 private:
  bool polar() const { return p_.h() == p_.m(); }

  StridedBatch take() {
    if (free_.empty()) return scratch_.matrices(count_, g_.first.rows, g_.first.cols);
    const StridedBatch matrix = free_.back();
    free_.pop_back();
    return matrix;
  }

  void multiply(const StridedBatch& a, const StridedBatch& b, const StridedBatch& c,
                std::span<const SymmetricForm> forms = {}, double alpha = 1) {
    products_.symmetric(static_cast<float>(alpha), a, b, c, forms);
  }
  void multiply_long(double alpha, const StridedBatch& x, const StridedBatch& small, const StridedBatch& out) {
    products_.by_small(static_cast<float>(alpha), x, small, 0, out);
  }
  // out = x·small, over the scale, for an x that has not been divided by it. small has served then.
  void multiply_and_divide(const StridedBatch& x, const StridedBatch& small, const StridedBatch& out) {
    if (scales_ != nullptr) scales_->gain(0, small, true);
    multiply_long(scales_ != nullptr ? 1 : 1 / scale_, x, small, out);
  }
  void rebuild_gram() { products_.gram(y_, gram_); }
  void write_forms(std::span<const SymmetricForm> forms) { core::symmetric_forms(queue_, count_, next_, forms); }
  void copy(const StridedBatch& from, const StridedBatch& to) {
    const SymmetricForm form{.out = to.first};
    core::symmetric_forms(queue_, count_, from, {&form, 1});
  }

  // From A in gram_ and A² in next_ to Z = source_·T, over the scale unless divided_. `unit`: what the eigenvalue 1 of the
  // design is in A.
  void take_steps(double unit) {
    const int steps = core::to_int(schedule_.degrees.size());
    for (int k = 0; k < steps; ++k) {
      form_weight(k, k == 0 ? unit : 1);
      if (k + 1 == steps)
        raise(0, 0);
      else if (k < schedule_.restarts)
        restart();
      else
        raise(2 * p_.h(), 0);
    }
  }

  // power_ = w_k(A). In the first step A² is there already, for its moments.
  void form_weight(int k, double unit) {
    const DesignStep& step = schedule_.design->steps[core::at(k)];
    // In powers of X = A − center·I the terms are far smaller than in those of A, and cancel less.
    const double center = step.octic ? step.octic->center : (step.low + step.high) / 2;
    const auto shift = static_cast<float>(center * unit);
    if (k == 0) {
      const SymmetricForm square{
          .out = next_.first, .identity = shift * shift, .first = {.matrix = gram_.first, .factor = -2 * shift}};
      write_forms({&square, 1});
    }
    add_to_diagonal(queue_, count_, gram_, -shift);
    if (step.octic) {
      evaluate_octic(*step.octic, step.octic->radius * unit, k == 0);
    } else {
      std::vector<double> c = shifted(step.weight.coefficients, center);
      for (std::size_t i = 0; i < c.size(); ++i) c[i] /= std::pow(unit, static_cast<double>(i));
      evaluate_weight(c, k == 0);
    }
    add_to_diagonal(queue_, count_, gram_, shift);
  }

  // power_ = Σ c_i·Xⁱ for the X in gram_; `squared`: X² is in next_ already.
  void evaluate_weight(const std::vector<double>& c, bool squared) {
    const auto f = [&c](std::size_t i) { return static_cast<float>(c[i]); };
    if (c.size() == 3) {
      const SymmetricForm weight{
          .out = power_.first, .product = f(2), .identity = f(0), .first = {.matrix = gram_.first, .factor = f(1)}};
      squared ? write_forms({&weight, 1}) : multiply(gram_, gram_, power_, {&weight, 1});
      return;
    }
    MUONP_ASSERT(c.size() == 5, "degree {}", c.size() - 1);
    // (c₂ + c₃X + c₄X²)·X² + c₀ + c₁X
    square_with({.out = spare_.first, .product = f(4), .identity = f(2), .first = {.matrix = gram_.first, .factor = f(3)}},
                squared);
    const SymmetricForm weight{.out = power_.first, .identity = f(0), .first = {.matrix = gram_.first, .factor = f(1)}};
    multiply(spare_, next_, power_, {&weight, 1});
  }

  // next_ = X² and one form of it.
  void square_with(const SymmetricForm& form, bool squared) {
    const SymmetricForm both[] = {form, {.out = next_.first}};
    squared ? write_forms({both, 1}) : multiply(gram_, gram_, next_, both);
  }

  // power_ = w(A) with x = X/radius for the X in gram_. y = x² is in next_ as X².
  void evaluate_octic(const Octic& o, double radius, bool squared) {
    const double x = 1 / radius, y = x * x;
    const auto term = [](const StridedBatch& matrix, double factor) {
      return core::SymmetricTerm{.matrix = matrix.first, .factor = static_cast<float>(factor)};
    };
    square_with({.out = spare_.first, .product = static_cast<float>(o.c4 * y), .first = term(gram_, o.c3 * x)}, squared);
    const SymmetricForm factors[] = {{.out = left_.first, .first = term(next_, o.d2 * y), .second = term(gram_, o.d1 * x)},
                                     {.out = right_.first, .first = term(next_, o.e2 * y)},
                                     {.out = power_.first,
                                      .product = static_cast<float>(o.e0),
                                      .identity = static_cast<float>(o.f0),
                                      .first = term(next_, o.f2 * y),
                                      .second = term(gram_, o.f1 * x),
                                      .mirror = false}};
    multiply(next_, spare_, power_, factors, y);
    const auto sign = static_cast<float>(o.sign);
    const SymmetricForm weight{.out = power_.first, .product = sign, .first = term(power_, sign)};
    multiply(left_, right_, next_, {&weight, 1});
  }

  // A matrix that gathers powers of W.
  struct Target {
    StridedBatch* matrix;
    int exponent;
    bool holds;  // something to multiply; otherwise it becomes the power itself
  };

  // With W in power_: T ← T·Wᵐ; A ← A·W^on_gram where that is not 0; gram_ ← W^on_long where that is not 0 (A
  // has served then). W is squared up to the highest bit of the exponents and multiplied on where a bit is
  // set.
  void raise(int on_gram, int on_long) {
    Target targets[] = {{&left_, p_.m(), false}, {&gram_, on_gram, true}, {&gram_, on_long, false}};
    const int all = p_.m() | on_gram | on_long;
    for (int bit = 0; (all >> bit) != 0; ++bit) {
      StridedBatch* taker = nullptr;  // the one that gets power_'s own storage, once nothing needs it any more
      for (Target& t : targets) {
        if ((t.exponent >> bit & 1) == 0) continue;
        if (t.holds) {
          multiply(*t.matrix, power_, spare_);
          std::swap(*t.matrix, spare_);
        } else {
          if (taker) copy(power_, *taker);
          taker = t.matrix;
          t.holds = true;
        }
      }
      const bool more = (all >> (bit + 1)) != 0;
      if (more) multiply(power_, power_, next_);
      if (taker) std::swap(*taker, power_);
      if (more) std::swap(power_, next_);
    }
    gather(on_gram == 0 && on_long == 0 && !polar());
  }

  // T ← T·left_, or left_ itself where T holds nothing yet.
  void gather(bool last) {
    if (!product_holds_) {
      std::swap(product_, left_);
    } else if (is_averaged(schedule_.averaging, last)) {
      products_.symmetrized(product_, left_, spare_);
      std::swap(product_, spare_);
    } else {
      multiply(product_, left_, spare_);
      std::swap(product_, spare_);
    }
    product_holds_ = true;
  }

  // Y ← Y·Wʰ and A = YᵀY. What Z is made from follows only where it is Y itself (p = 0).
  void restart() {
    raise(0, polar() ? 0 : p_.h());
    const StridedBatch y = y_;
    y_ = take();
    const StridedBatch& factor = polar() ? product_ : gram_;
    const bool first = y.first.data == source_.first.data && !divided_;
    first ? multiply_and_divide(y, factor, y_) : multiply_long(1, y, factor, y_);
    if (polar()) {
      product_holds_ = false;
      divided_ = true;
      source_ = y_;
    }
    if (y.first.data != source_.first.data) free_.push_back(y);
    rebuild_gram();
  }

  core::Queue& queue_;
  Products& products_;
  Scratch scratch_;
  std::int64_t count_;
  Exponent p_;
  const Schedule& schedule_;
  StridedBatch g_;
  std::int64_t n_;
  double scale_ = 1;          // of the one matrix, where the host finds it
  Scales* scales_ = nullptr;  // of all, where the device does
  bool divided_ = false;      // source_ is divided by the scale
  bool product_holds_ = false;
  StridedBatch gram_, product_, power_, next_, spare_;  // A, T, powers of W, and what is being written
  StridedBatch left_, right_;                           // factors of an octic; left_ is Wᵐ between two octics
  StridedBatch y_, source_;                             // Z = source_·T, over the scale unless divided_
  std::vector<StridedBatch> free_;
};

// float32; and any storage at p = 1, where there is nothing to compute.
class CoupledMinimax final : public PerMatrix {
 public:
  explicit CoupledMinimax(const SpectralOptions& options) : PerMatrix(options) {
    if (options.p.m() > 0) schedule(1, 1);  // an error now rather than in the first step
  }

  SpectralPlan plan(std::int64_t rows, std::int64_t cols) const override {
    SpectralPlan plan;
    plan.predicted_error = 0;
    if (trivial(rows, cols)) return plan;
    const Schedule& s = schedule(rows, cols);
    plan.degrees = s.degrees;
    for (int k = 1; k <= s.restarts; ++k) plan.rebuilds.push_back(k);
    plan.keep_t = options().p.numerator != 0;
    plan.products = schedule_products(s, options().p, rows, cols);
    plan.predicted_error = s.design->error;
    return plan;
  }
  double flops(std::int64_t rows, std::int64_t cols) const override {
    return trivial(rows, cols) ? 0 : schedule_flops(schedule(rows, cols), options().p, rows, cols);
  }
  std::int64_t workspace_bytes(std::int64_t rows, std::int64_t cols) const override {
    return part_bytes({rows, cols}, {rows, cols});
  }
  bool takes_together(core::DeviceKind device) const override { return device == core::DeviceKind::cuda; }

 protected:
  Outcome one(core::Device& device, const Input& input, const MatrixView& z) const override {
    Products products(device, 1, z.rows, z.cols);
    return raise(device, {z.rows, z.cols}, input, z, products);
  }
  Together all(core::Device& device, std::int64_t count, const StridedBatch& g, const StridedBatch& z) const override {
    Scales scales(device, count);
    if (options().p.m() == 0) {
      copy(device, count, g, z);
      scales.find_factor(g);
      return measured(scales, z, {.predicted_error = 0});
    }
    const std::int64_t rows = g.first.rows, cols = g.first.cols;
    const Schedule& s = schedule(rows, cols);
    Products products(device, count, rows, cols);
    Recurrence(device, count, options().p, s, g, products).run(scales, z);
    return measured(scales, z, outcome_of(s, products.flops() / static_cast<double>(count)));
  }
  Outcome share(core::Device& device, const Size& whole, const Input& input, const MatrixView& z,
                Sharers& sharers) const override {
    Products products(device, 1, whole.rows, whole.cols, &sharers);
    return raise(device, whole, input, z, products);
  }
  std::optional<ProductCount> product_count(std::int64_t rows, std::int64_t cols) const override {
    if (trivial(rows, cols)) return ProductCount{};
    return schedule_count(schedule(rows, cols), options().p);
  }
  std::int64_t part_bytes(const Size& whole, const Size& part) const override {
    if (trivial(whole.rows, whole.cols)) return 0;
    const std::int64_t n = std::min(whole.rows, whole.cols);
    const Schedule& s = schedule(whole.rows, whole.cols);
    return small_matrices(s) * Scratch::bytes(n, n, core::Dtype::float32) +
           long_matrices(s, options().p) * Scratch::bytes(part.rows, part.cols, core::Dtype::float32);
  }

 private:
  // `whole`: the size of the matrix of which input and z may be a share.
  Outcome raise(core::Device& device, const Size& whole, const Input& input, const MatrixView& z, Products& products) const {
    if (options().p.m() == 0) {
      copy(device, 1, {input.g}, {z});
      return {.scale = input.norm, .predicted_error = 0};
    }
    const Schedule& s = schedule(whole.rows, whole.cols);
    Recurrence recurrence(device, 1, options().p, s, {input.g}, products);
    const double scale = recurrence.run(input.factor, z, [&](double of) { return gain(input, of); });
    Outcome outcome = outcome_of(s, products.flops());
    outcome.scale = scale;
    return outcome;
  }
  // p = 1: G itself, to the last bit. Both are dense.
  static void copy(core::Device& device, std::int64_t count, const StridedBatch& g, const StridedBatch& z) {
    device.queue().copy(z.first.data, g.first.data, count * z.first.rows * z.first.cols * core::size_of(z.first.dtype));
  }
  static Outcome outcome_of(const Schedule& s, double flops) {  // but for the scale
    return {
        .steps = core::to_int(s.degrees.size()), .restarts = s.restarts, .predicted_error = s.design->error, .flops = flops};
  }
  bool trivial(std::int64_t rows, std::int64_t cols) const { return options().p.m() == 0 || rows == 0 || cols == 0; }

  const Schedule& schedule(std::int64_t rows, std::int64_t cols) const {
    std::lock_guard lock(mutex_);
    return core::remember(schedules_, {rows, cols},
                          [&] { return choose_schedule(options().p, options().epsilon, options().tolerance, rows, cols); });
  }

  mutable std::mutex mutex_;
  mutable std::map<std::pair<std::int64_t, std::int64_t>, Schedule> schedules_;
};

}  // namespace

Method make_coupled_minimax(const SpectralOptions& options) {
  if (!is_narrow(options.dtype) || options.p.m() == 0) return std::make_unique<CoupledMinimax>(options);
  return make_narrow_power(options, Scaling::by_bound, [options](std::int64_t rows, std::int64_t cols) {
    return choose_narrow_schedule(options.p, options.epsilon, options.tolerance, options.dtype, rows, cols);
  });
}

}  // namespace muonp::optim::spectral
