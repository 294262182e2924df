// The recurrence of storage with fewer bits than float32's: its algebra, what its schedules cost, and what they are
// forecast.
#include "optim/spectral/narrow_schedule.h"

#include <gmock/gmock.h>

#include <cmath>
#include <vector>

#include "optim/spectral/spectral_power.h"

namespace muonp::optim::spectral {
namespace {

using core::Dtype;
using testing::ElementsAre;

// One singular value, in double precision.
class Exact {
 public:
  using Small = std::shared_ptr<double>;
  using Long = std::shared_ptr<double>;
  explicit Exact(double sigma) : sigma_(sigma) {}

  std::pair<Long, Small> start() {
    const Long y = std::make_shared<double>(sigma_);
    return {y, gram(y)};
  }
  template <std::size_t N>
  std::array<Small, N> multiply(const Small& a, const Small& b, const NarrowForm<Small> (&forms)[N]) {
    std::array<Small, N> outs;
    for (std::size_t i = 0; i < N; ++i) {
      const auto& f = forms[i];
      outs[i] = std::make_shared<double>(f.product * *a * *b + (f.first ? f.first_factor * *f.first : 0) +
                                         (f.second ? f.second_factor * *f.second : 0));
    }
    return outs;
  }
  Small gram(const Long& y) { return std::make_shared<double>(*y * *y); }
  void begin_step(const DesignStep&, const Small&) {}
  Long multiply_long(const Long& x, const Small& small, double identity) {
    return std::make_shared<double>(*x * (*small + identity));
  }
  void finish(const Long& x, const Small& small, double identity) { result = *x * (*small + identity); }

  double result = 0;

 private:
  double sigma_;
};

const char* const kExponents[] = {"0", "1/4", "1/3", "1/2", "2/3", "3/4", "-1/4", "7/8", "-1/2"};

NarrowPlan plan_of(const Design& design, std::vector<int> rebuilds, bool keep_t) {
  return {design.steps, std::move(rebuilds), keep_t};
}

}  // namespace

// z = σᵖ·a^(m/2h) whatever is rebuilt when, and wherever T is kept: only the last a's distance from 1 is left, as designed.
TEST(NarrowSteps, OneSingularValueComesToWithinTheDesign) {
  for (const char* text : kExponents) {
    const Exponent p = parse_exponent(text);
    for (const std::vector<int>& degrees : std::vector<std::vector<int>>{{2, 4, 8}, {8, 2, 4}, {4, 8, 2, 2}}) {
      const Design design = design_steps(p, 1e-2, degrees, 0.01, 0.01);
      for (const std::vector<int>& rebuilds : std::vector<std::vector<int>>{{}, {1}, {2}, {1, 2}})
        for (const bool keep_t : {false, true}) {
          if (rebuilds == std::vector<int>{2} && p.numerator != 0) continue;
          const NarrowPlan plan = plan_of(design, rebuilds, keep_t);
          double worst = 0;
          for (int i = 0; i <= 300; ++i) {
            const double sigma = std::pow(1e-2, i / 300.0);
            Exact exact(sigma);
            NarrowSteps<Exact>(exact, p, plan).run();
            worst = std::max(worst, std::abs(exact.result / std::pow(sigma, p.value()) - 1));
          }
          EXPECT_LE(worst, design.error + 1e-8) << text;
          if (design.error > 1e-6) {
            EXPECT_GE(worst, 0.8 * design.error) << text;
          }
        }
    }
  }
}

// The bound of Gram Newton-Schulz (Dao-AILab) is 10, 13 and 19 products with a 30 % error.
TEST(NarrowSchedule, HalfStorageTakesFewProducts) {
  const struct {
    const char* p;
    double products[3];  // 1:1, 2:1, 4:1
  } cases[] = {{"1/2", {9.5, 13.5, 21.5}}, {"0", {7.5, 10.5, 16.5}}};
  for (const auto& c : cases)
    for (int i = 0; i < 3; ++i) {
      const std::int64_t rows = 1024 << i;
      const auto s = choose_narrow_schedule(parse_exponent(c.p), 1e-2, 0.01, Dtype::float16, rows, 1024);
      EXPECT_LE(s->forecast.cost.products(rows, 1024), c.products[i]) << c.p << ", " << rows;
      EXPECT_LE(s->forecast.error(rows, 1024), c.p[0] == '0' ? 0.015 : 0.01) << c.p << ", " << rows;
      EXPECT_EQ(s->forecast.cost.products(rows, 1024),
                choose_narrow_schedule(parse_exponent(c.p), 1e-2, 0.01, Dtype::float16, 1024, rows)
                    ->forecast.cost.products(1024, rows));
    }
}

// The products of the schedules that half_storage tables list, counted by hand: Gram matrices, long products, and halves.
TEST(NarrowSchedule, ProductsAreCounted) {
  const struct {
    const char* p;
    std::vector<int> degrees, rebuilds;
    bool keep_t;
    double products[3];
  } cases[] = {{"1/2", {2, 4, 4, 4}, {1, 2, 3}, false, {14, 23, 41}}, {"1/2", {2, 4, 4, 4}, {1, 2}, false, {13, 19.5, 32.5}},
               {"1/2", {4, 4, 4}, {1}, false, {9.5, 13.5, 21.5}},     {"1/2", {4, 4, 4}, {1}, true, {9, 12, 18}},
               {"3/4", {2, 4, 4}, {1}, true, {9.5, 12.5, 18.5}},      {"1/3", {4, 4, 4}, {1}, false, {11, 15, 23}},
               {"1/4", {4, 4, 4}, {1}, false, {12.5, 16.5, 24.5}},    {"0", {4, 4, 4}, {1}, false, {7.5, 10.5, 16.5}},
               {"0", {4, 4, 4, 4}, {1, 2}, false, {10, 14.5, 23.5}}};
  for (const auto& c : cases) {
    const Exponent p = parse_exponent(c.p);
    const NarrowCost cost = cost_of(p, plan_of(design_steps(p, 1e-2, c.degrees, 0.01, 0.01), c.rebuilds, c.keep_t));
    for (int i = 0; i < 3; ++i) EXPECT_EQ(cost.products(256 << i, 256), c.products[i]) << c.p << ", " << i;
  }
}

// One rebuild at ε = 1e-3 leaves eigenvalues to the second step that 11 bits do not hold.
TEST(NarrowSchedule, TheForecastKnowsWhatElevenBitsCannotDo) {
  const Exponent p = parse_exponent("1/2");
  const Design design = design_steps(p, 1e-3 / kNarrowBoundSlack, {2, 4, 4, 4}, 0.01, 0.01);
  const auto error = [&](std::vector<int> rebuilds, Dtype dtype) {
    return forecast(p, plan_of(design, std::move(rebuilds), false), 1e-3, design.error, dtype).error(512, 256);
  };
  EXPECT_GE(error({1}, Dtype::float16), 0.1);
  EXPECT_LE(error({1, 2}, Dtype::float16), 0.03);
  EXPECT_LE(error({1, 2, 3}, Dtype::float16), 0.03);
  EXPECT_GE(error({1, 2, 3}, Dtype::bfloat16), 3 * error({1, 2, 3}, Dtype::float16));

  // T of p = -1/2 reaches 1e6, which float16 does not.
  const Design negative = design_steps({-1, 2}, 1e-4, {8, 8, 8, 4}, 0.01, 0.01);
  const NarrowPlan keeps = plan_of(negative, {1, 2, 3}, true);
  EXPECT_TRUE(std::isinf(forecast({-1, 2}, keeps, 1e-4, negative.error, Dtype::float16).error(64, 64)));
  EXPECT_TRUE(std::isfinite(forecast({-1, 2}, keeps, 1e-4, negative.error, Dtype::bfloat16).error(64, 64)));
}

TEST(NarrowSchedule, LooserTolerancesAreNotDearer) {
  for (const char* text : {"0", "1/3", "1/2", "3/4", "-1/4"})
    for (const Dtype dtype : {Dtype::float16, Dtype::bfloat16}) {
      const Exponent p = parse_exponent(text);
      SCOPED_TRACE(fmt::format("{} {}", text, core::name_of(dtype)));
      const auto s = choose_narrow_schedule(p, 1e-2, 0.01, dtype, 1024, 1024);
      EXPECT_LE(s->forecast.design_error, 0.015);
      EXPECT_GE(s->plan.rebuilds.size(), 1u);
      EXPECT_LT(s->plan.rebuilds.size(), s->degrees.size());
      EXPECT_EQ(s->plan.steps.size(), s->degrees.size());
      const auto looser = choose_narrow_schedule(p, 1e-2, 0.03, dtype, 1024, 1024);
      EXPECT_LE(looser->forecast.cost.products(1024, 1024), s->forecast.cost.products(1024, 1024));
    }
}

TEST(SpectralPlan, TellsWhatApplyDoes) {
  const auto plan_of = [](const char* method, const char* p, Dtype dtype) {
    SpectralOptions o;
    o.method = method;
    o.p = parse_exponent(p);
    o.dtype = dtype;
    return make_spectral_power(o)->plan(4096, 1024);
  };
  const SpectralPlan gram = plan_of("gram_newton_schulz", "0", Dtype::float16);
  EXPECT_EQ(gram.products, 19);
  EXPECT_THAT(gram.degrees, ElementsAre(2, 2, 2, 2, 2));
  EXPECT_THAT(gram.rebuilds, ElementsAre(2));
  EXPECT_TRUE(std::isnan(gram.predicted_error));
  EXPECT_EQ(plan_of("symmetric_newton_schulz5", "0", Dtype::float16).products, 32.5);
  EXPECT_EQ(plan_of("newton_schulz5", "0", Dtype::float16).products, 45);
  const SpectralPlan wide = plan_of("coupled_minimax", "1/2", Dtype::float32);
  EXPECT_THAT(wide.degrees, ElementsAre(8, 8, 8));
  EXPECT_EQ(wide.products, 19.5);
  EXPECT_EQ(plan_of("coupled_minimax", "1", Dtype::float16).products, 0);
}

}  // namespace muonp::optim::spectral
