// The coupled minimax recurrence in storage of fewer bits than float32's, written once for what carries it out: matrices
// (narrow_matrices.h), or numbers that tell what it costs and how exact it is (narrow_model.h).
//
// A matrix f(A) of the small side is stored as f(A) − f(0)·I, and f(0) beside it. Rounding is relative to what is stored:
// with its identity part, which is as large as W's largest eigenvalue, W would be rounded relative to that everywhere, and
// the small eigenvalues of A would move by it.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/base/math.h"
#include "optim/spectral/minimax.h"

namespace muonp::optim::spectral {

struct NarrowPlan {
  std::vector<DesignStep> steps;  // of degree 2, 4 or 8
  std::vector<int> rebuilds;  // A = YᵀY is formed anew after these steps, 1 the first; ascending, and but for p = 0 without
                              // a gap, since Y is multiplied by the Wʰ of one step at a time
  bool keep_t = false;  // T gathers Wᵐ over rebuilds, and Z is multiplied once, at the end; at p = 0, where Z is Y, never

  bool rebuilds_after(int step) const {
    for (const int rebuild : rebuilds)
      if (rebuild == step) return true;
    return false;
  }
};

// What to make of a product C: product·C + Σ factor·matrix, rounded once.
template <class Small>
struct NarrowForm {
  double product = 1;
  Small first = {};
  double first_factor = 0;
  Small second = {};
  double second_factor = 0;
};

// Arithmetic has
//   Small, Long             shared handles of matrices of the small side and of G's shape
//   {Long, Small} start()   Y = G over its scale, and A = YᵀY
//   array<Small, N> multiply(a, b, forms)      forms of the symmetric product of two matrices that commute
//   Small gram(y)
//   void begin_step(step, gram)                before w(gram)
//   Long multiply_long(x, small, identity)     X·(small + identity·I)
//   void finish(x, small, identity)            the same into the result, float32
template <class Arithmetic>
class NarrowSteps {
 public:
  using Small = typename Arithmetic::Small;
  using Long = typename Arithmetic::Long;

  NarrowSteps(Arithmetic& arithmetic, Exponent p, const NarrowPlan& plan) : a_(arithmetic), p_(p), plan_(plan) {}

  void run() {
    auto [y, gram] = a_.start();
    Long z = y;
    std::optional<Shifted> t;
    const int steps = core::to_int(plan_.steps.size());
    for (int k = 1; k <= steps; ++k) {
      const bool last = k == steps, rebuild = !last && plan_.rebuilds_after(k);
      a_.begin_step(plan_.steps[core::at(k - 1)], gram);
      const Powers powers = raise(weight(plan_.steps[core::at(k - 1)], gram), rebuild && !polar() ? p_.h() : 0,
                                  last || rebuild ? 0 : 2 * p_.h(), gram);
      t = t ? times(*t, powers.of_t) : powers.of_t;
      if (last) return a_.finish(z, t->matrix, t->identity);
      if (!rebuild) continue;
      MUONP_ASSERT(polar() || k == 1 || plan_.rebuilds_after(k - 1), "a rebuild after step {} and none before", k);
      gram.reset();
      if (polar() || !plan_.keep_t) {
        z = a_.multiply_long(z, t->matrix, t->identity);
        t.reset();
      }
      y = polar() ? z : a_.multiply_long(y, powers.of_y->matrix, powers.of_y->identity);
      gram = a_.gram(y);
    }
  }

 private:
  using Form = NarrowForm<Small>;
  struct Shifted {  // matrix + identity·I
    Small matrix;
    double identity = 0;
  };
  struct Powers {
    Shifted of_t;                 // Wᵐ
    std::optional<Shifted> of_y;  // Wʰ, where it is wanted
  };

  bool polar() const { return p_.h() == p_.m(); }

  Shifted times(const Shifted& x, const Shifted& y) {
    const double identity = x.identity * y.identity;
    if (x.matrix == y.matrix)
      return {one(x.matrix, x.matrix, {.first = x.matrix, .first_factor = 2 * x.identity}), identity};
    return {one(x.matrix, y.matrix,
                {.first = y.matrix, .first_factor = x.identity, .second = x.matrix, .second_factor = y.identity}),
            identity};
  }
  Small one(const Small& a, const Small& b, const Form& form) { return a_.template multiply<1>(a, b, {form})[0]; }

  // W = w(A).
  Shifted weight(const DesignStep& step, const Small& gram) {
    const std::vector<double>& w = step.weight.coefficients;
    if (step.octic) return {octic(*step.octic, gram), w[0]};
    if (w.size() == 3) return {one(gram, gram, {.product = w[2], .first = gram, .first_factor = w[1]}), w[0]};
    return {quartic(w, (step.low + step.high) / 2, gram), w[0]};
  }

  // w(A) − w(0)·I by way of S = (A − center·I)² − center²·I = A² − 2·center·A: in powers of A itself the terms are far
  // larger, and cancel.
  //   w(a) − w(0) = (w₄s + q₁a)·s + q₂s + q₃a
  Small quartic(const std::vector<double>& w, double center, const Small& gram) {
    MUONP_ASSERT(w.size() == 5, "degree {}", w.size() - 1);
    const double shift = -2 * center, q1 = w[3] - 2 * w[4] * shift, q2 = w[2] - (w[4] * shift + q1) * shift,
                 q3 = w[1] - q2 * shift;
    const auto [s, inner] =
        a_.template multiply<2>(gram, gram,
                                {Form{.first = gram, .first_factor = shift},
                                 Form{.product = w[4], .first = gram, .first_factor = w[4] * shift + q1}});
    return one(inner, s, {.first = s, .first_factor = q2, .second = gram, .second_factor = q3});
  }

  // The same of degree 8 (octic.h). In x = x₀ + a/radius every factor is its value at a = 0, written with ₀, and the rest:
  // y = y₀ + y', and so on; what is multiplied are the rests.
  Small octic(const Octic& o, const Small& gram) {
    const double to_x = 1 / o.radius, x0 = -o.center * to_x, y0 = x0 * x0;
    const double inner0 = o.c4 * y0 + o.c3 * x0, v0 = y0 * inner0;  // v = y·(c₄y + c₃x)
    const double v_of_y = y0 * o.c4 + inner0, v_of_x = y0 * o.c3;   // v' = y'·(c₄y' + c₃x') + v_of_y·y' + v_of_x·x'
    const double left0 = v0 + o.d2 * y0 + o.d1 * x0, right0 = v0 + o.e2 * y0;
    const std::array<Small, 2> of_square = a_.template multiply<2>(
        gram, gram,
        {Form{.product = to_x * to_x, .first = gram, .first_factor = 2 * x0 * to_x},
         Form{.product = o.c4 * to_x * to_x, .first = gram, .first_factor = (2 * o.c4 * x0 + o.c3) * to_x}});
    const Small &y = of_square[0], &inner = of_square[1];
    const auto linear = [&](double product, double of_y, double of_x) {
      return Form{.product = product, .first = y, .first_factor = of_y, .second = gram, .second_factor = of_x * to_x};
    };
    // w − w(0) = sign·(left'·right' + left₀·right' + right₀·left' + e₀v' + f₂y' + f₁x'); all but the first is `rest`.
    const auto [left, right, rest] = a_.template multiply<3>(
        y, inner,
        {linear(1, v_of_y + o.d2, v_of_x + o.d1), linear(1, v_of_y + o.e2, v_of_x),
         linear(left0 + right0 + o.e0, left0 * (v_of_y + o.e2) + right0 * (v_of_y + o.d2) + o.e0 * v_of_y + o.f2,
                left0 * v_of_x + right0 * (v_of_x + o.d1) + o.e0 * v_of_x + o.f1)});
    return one(left, right, {.product = o.sign, .first = rest, .first_factor = o.sign});
  }

  // Wᵐ; Wʰ for on_y = h; gram ← gram·W^on_gram. 0 is none. W is squared up to the highest bit of the exponents.
  Powers raise(Shifted w, int on_y, int on_gram, Small& gram) {
    std::optional<Shifted> of_t, of_y;
    const int all = p_.m() | on_y | on_gram;
    for (int bit = 0; (all >> bit) != 0; ++bit) {
      const auto wanted = [bit](int exponent) { return (exponent >> bit & 1) != 0; };
      if (wanted(p_.m())) of_t = of_t ? times(*of_t, w) : w;
      if (wanted(on_y)) of_y = of_y ? times(*of_y, w) : w;
      if (wanted(on_gram)) gram = times({gram, 0}, w).matrix;
      if ((all >> (bit + 1)) != 0) w = times(w, w);
    }
    return {*of_t, of_y};
  }

  Arithmetic& a_;
  Exponent p_;
  const NarrowPlan& plan_;
};

}  // namespace muonp::optim::spectral
