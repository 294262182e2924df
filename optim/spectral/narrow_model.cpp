#include "optim/spectral/narrow_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "core/device/symmetric.h"
#include "optim/spectral/pool.h"

namespace muonp::optim::spectral {
namespace {

constexpr int kPoints = 24;             // of the spectrum
constexpr double kTypicalBound = 1.15;  // a bound on σ_max over σ_max
// The largest of some hundred independent errors beside their root mean square, where these differ along the spectrum.
constexpr double kWorst = 2.5;
constexpr double kLargestFloat16 = 3e4;  // entries of a matrix are below its eigenvalues; a factor of 2 for rounding

// Of a stored entry: half a unit in the last place, uniform, over mantissas that are as common as those of random numbers.
double unit_rounding(core::Dtype dtype) { return 0.39 * (dtype == core::Dtype::bfloat16 ? 0x1p-8 : 0x1p-11); }

class Numbers {
 public:
  struct Values {
    std::vector<double> value;                   // at each point
    std::vector<std::vector<double>> by_source;  // its derivatives, by the rounding of each matrix stored so far
  };
  using Small = std::shared_ptr<Values>;
  using Long = std::shared_ptr<Values>;

  Numbers(std::vector<double> sigma, core::Dtype dtype)
      : sigma_(std::move(sigma)),
        unit_(unit_rounding(dtype)),
        float16_(dtype == core::Dtype::float16),
        smalls_([] { return Values(); }),
        longs_([] { return Values(); }) {}

  std::pair<Long, Small> start() {
    Long y = longs_.take();
    *y = {sigma_, {}};
    store(*y, true);
    return {y, gram(y)};
  }
  template <std::size_t N>
  std::array<Small, N> multiply(const Small& a, const Small& b, const NarrowForm<Small> (&forms)[N]) {
    ++cost_.symmetric;
    const Values product = product_of(*a, *b, 0);
    std::array<Small, N> outs;
    for (std::size_t i = 0; i < N; ++i) {
      outs[i] = smalls_.take();
      Values out;
      add(out, product, forms[i].product);
      if (forms[i].first) add(out, *forms[i].first, forms[i].first_factor);
      if (forms[i].second) add(out, *forms[i].second, forms[i].second_factor);
      store(out, false);
      *outs[i] = std::move(out);
    }
    return outs;
  }
  Small gram(const Long& y) {
    ++cost_.grams;
    Small a = smalls_.take();
    *a = product_of(*y, *y, 0);
    store(*a, false);
    return a;
  }
  void begin_step(const DesignStep& step, const Small& gram) {
    const std::vector<double>& w = step.weight.coefficients;
    instability_ =
        std::max(instability_, std::abs(w[1] / w[0]) * std::sqrt(2 * variance_of(*gram, gram->value.size() - 1, false)));
  }
  Long multiply_long(const Long& x, const Small& small, double identity) {
    ++cost_.longs;
    Long out = longs_.take();
    *out = product_of(*x, *small, identity);
    store(*out, true);
    return out;
  }
  void finish(const Long& x, const Small& small, double identity) {
    ++cost_.longs;
    result_ = product_of(*x, *small, identity);
  }

  NarrowCost cost() const {
    NarrowCost cost = cost_;
    cost.small_matrices = smalls_.made();
    cost.long_matrices = longs_.made();
    return cost;
  }
  bool in_range() const { return in_range_; }
  // Σ of the squares of the result's derivatives by the long matrices' rounding, or by the small ones', at a point.
  double variance(std::size_t point, bool of_long) const { return variance_of(result_, point, of_long); }
  double instability() const { return instability_; }

 private:
  // a·(b + identity)
  static Values product_of(const Values& a, const Values& b, double identity) {
    Values out;
    const std::size_t points = a.value.size();
    out.value.resize(points);
    for (std::size_t i = 0; i < points; ++i) out.value[i] = a.value[i] * (b.value[i] + identity);
    out.by_source.resize(std::max(a.by_source.size(), b.by_source.size()));
    for (std::size_t s = 0; s < out.by_source.size(); ++s) {
      const std::vector<double>*of_a = derivatives(a, s), *of_b = derivatives(b, s);
      if (!of_a && !of_b) continue;
      out.by_source[s].resize(points);
      for (std::size_t i = 0; i < points; ++i)
        out.by_source[s][i] = (of_a ? (*of_a)[i] * (b.value[i] + identity) : 0) + (of_b ? a.value[i] * (*of_b)[i] : 0);
    }
    return out;
  }
  static const std::vector<double>* derivatives(const Values& of, std::size_t source) {
    return source < of.by_source.size() && !of.by_source[source].empty() ? &of.by_source[source] : nullptr;
  }
  // to += factor·from
  static void add(Values& to, const Values& from, double factor) {
    const auto add_to = [factor](std::vector<double>& out, const std::vector<double>& in) {
      out.resize(in.size());
      for (std::size_t i = 0; i < in.size(); ++i) out[i] += factor * in[i];
    };
    add_to(to.value, from.value);
    to.by_source.resize(std::max(to.by_source.size(), from.by_source.size()));
    for (std::size_t s = 0; s < from.by_source.size(); ++s)
      if (!from.by_source[s].empty()) add_to(to.by_source[s], from.by_source[s]);
  }
  double variance_of(const Values& of, std::size_t point, bool of_long) const {
    double sum = 0;
    for (std::size_t s = 0; s < of.by_source.size(); ++s)
      if (is_long_[s] == of_long && !of.by_source[s].empty()) sum += std::pow(of.by_source[s][point], 2);
    return sum;
  }
  // Rounds it: every eigenvalue gets the same derivative.
  void store(Values& x, bool is_long) {
    double squares = 0;
    for (const double v : x.value) {
      squares += v * v;
      if (float16_ && !(std::abs(v) < kLargestFloat16)) in_range_ = false;
    }
    const double rms = std::sqrt(squares / static_cast<double>(x.value.size()));
    x.by_source.resize(is_long_.size());
    x.by_source.emplace_back(x.value.size(), unit_ * rms * (is_long ? 1 : std::sqrt(2.0)));
    is_long_.push_back(is_long);
  }

  std::vector<double> sigma_;
  double unit_;
  bool float16_, in_range_ = true;
  double instability_ = 0;
  Pool<Values> smalls_, longs_;
  std::vector<bool> is_long_;  // by source
  NarrowCost cost_;
  Values result_;
};

std::vector<double> geometric(double epsilon) {
  std::vector<double> sigma(kPoints);
  for (int i = 0; i < kPoints; ++i) sigma[core::at(i)] = std::pow(epsilon, i / (kPoints - 1.0)) / kTypicalBound;
  return sigma;
}
std::vector<double> linear(double epsilon) {
  std::vector<double> sigma(kPoints);
  for (int i = 0; i < kPoints; ++i) sigma[core::at(i)] = (1 - (1 - epsilon) * i / (kPoints - 1.0)) / kTypicalBound;
  return sigma;
}

// The variance of σᵖ's relative error at each point, by the rounding of long or of small matrices.
std::vector<double> variances(const Numbers& numbers, const std::vector<double>& sigma, Exponent p, bool of_long) {
  std::vector<double> relative;
  for (std::size_t i = 0; i < sigma.size(); ++i)
    relative.push_back(numbers.variance(i, of_long) / std::pow(sigma[i], 2 * p.value()));
  return relative;
}

}  // namespace

double NarrowCost::products(std::int64_t rows, std::int64_t cols) const {
  const double aspect = static_cast<double>(std::max(rows, cols)) / static_cast<double>(std::min(rows, cols));
  return 0.5 * symmetric + (0.5 * grams + longs) * aspect;
}

double NarrowCost::flops(std::int64_t rows, std::int64_t cols, core::DeviceKind kind) const {
  const std::int64_t n = std::min(rows, cols), k = std::max(rows, cols);
  return symmetric * core::symmetric_flops(n, n, kind) + grams * core::symmetric_flops(n, k, kind) +
         longs * core::gemm_flops(n, n, k);
}

double NarrowForecast::error(std::int64_t rows, std::int64_t cols) const {
  if (!in_range) return std::numeric_limits<double>::infinity();
  const auto n = static_cast<double>(std::min(rows, cols)), k = static_cast<double>(std::max(rows, cols));
  double most = 0;
  for (std::size_t i = 0; i < of_small.size(); ++i) most = std::max(most, of_small[i] / n + of_long[i] / k);
  return design_error + kWorst * std::sqrt(most);
}

NarrowForecast forecast(Exponent p, const NarrowPlan& plan, double epsilon, double design_error, core::Dtype dtype) {
  const std::vector<double> sigma = geometric(epsilon), many_large = linear(epsilon);
  Numbers numbers(sigma, dtype), of_large(many_large, dtype);
  NarrowSteps<Numbers>(numbers, p, plan).run();
  NarrowSteps<Numbers>(of_large, p, plan).run();
  NarrowForecast f{.cost = numbers.cost(),
                   .design_error = design_error,
                   .of_small = variances(numbers, sigma, p, false),
                   .of_long = variances(numbers, sigma, p, true),
                   .instability = 2 * p.h() * of_large.instability(),
                   .in_range = numbers.in_range() && of_large.in_range()};
  for (const double variance : variances(of_large, many_large, p, false)) f.noise = std::max(f.noise, std::sqrt(variance));
  return f;
}

NarrowCost cost_of(Exponent p, const NarrowPlan& plan) {
  Numbers numbers({1.0}, core::Dtype::float32);
  NarrowSteps<Numbers>(numbers, p, plan).run();
  return numbers.cost();
}

}  // namespace muonp::optim::spectral
