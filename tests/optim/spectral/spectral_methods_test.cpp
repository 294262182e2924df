// The other recurrences against what their formulas do to single singular values, and what all methods share.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/device/symmetric.h"
#include "optim/spectral/spectral_power.h"
#include "tests/optim/spectral/spectral_reference.h"
#include "tests/reference/recurrences.h"

using namespace muonp;
using namespace muonp::optim::spectral;
using namespace muonp::test;
using testing::HasSubstr;

namespace {

SpectralOptions options(const std::string& method, const std::string& p) {
  SpectralOptions o;
  o.method = method;
  o.p = parse_exponent(p);
  return o;
}

// ‖Z − U f(S) Vᵀ‖_F/‖U f(S) Vᵀ‖_F, with f acting on σ/‖G‖_F as the methods with Frobenius scaling do.
double distance(const core::Tensor& z, const Factors& f, const std::function<double(double)>& of_scaled) {
  double norm = 0;
  for (double s : f.s) norm += s * s;
  norm = std::sqrt(norm);
  const Dense wanted = compose(f, [&](double s) { return of_scaled(s / norm); });
  const std::vector<float> values = values_of(z);
  double difference = 0, total = 0;
  for (std::size_t i = 0; i < wanted.values.size(); ++i) {
    difference += std::pow(values[i] - wanted.values[i], 2);
    total += wanted.values[i] * wanted.values[i];
  }
  return std::sqrt(difference / total);
}

double frobenius(const Factors& f) {
  double sum = 0;
  for (double s : f.s) sum += s * s;
  return std::sqrt(sum);
}

void for_shapes(const std::function<void(core::Device&, const Factors&, const core::Tensor&, const core::Tensor&)>& run) {
  for (int threads : {1, 2}) {
    auto device = test::make_test_device(threads);
    for (auto [rows, cols] : {std::array<std::int64_t, 2>{48, 48}, {90, 40}, {40, 90}, {1, 9}, {9, 1}}) {
      if (threads > 1 && rows != 90) continue;  // one shape shows that threads change nothing
      const Factors f = known_factors("gaussian", rows, cols);
      const core::Tensor g = to_tensor(*device, compose(f, [](double s) { return s; }));
      run(*device, f, g, empty_like(*device, g));
    }
  }
}

std::string message(const SpectralOptions& o) {
  try {
    make_spectral_power(o);
  } catch (const core::Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST(NewtonSchulz5, IsMuonsQuinticFiveTimes) {
  for_shapes([](core::Device& device, const Factors& f, const core::Tensor& g, const core::Tensor& z) {
    for (const char* method : {"newton_schulz5", "symmetric_newton_schulz5", "gram_newton_schulz"}) {
      const SpectralReport report = make_spectral_power(options(method, "0"))->apply(device, g, z);
      EXPECT_EQ(report.steps, 5);
      EXPECT_NEAR(report.scale[0], frobenius(f), 1e-5 * frobenius(f));
      EXPECT_TRUE(std::isnan(report.predicted_error));
      EXPECT_LE(distance(z, f, reference::newton_schulz5), 1e-3) << method;
    }
  });
}

TEST(PolarExpress, StaysWithinItsDesign) {
  for_shapes([](core::Device& device, const Factors& f, const core::Tensor& g, const core::Tensor& z) {
    const SpectralOptions o = options("polar_express", "0");
    const SpectralReport report = make_spectral_power(o)->apply(device, g, z);
    EXPECT_LE(report.predicted_error, o.tolerance);
    EXPECT_GE(report.steps, 4);
    // Small singular values of float32 Gram matrices carry the rounding of large ones.
    EXPECT_LE(errors_of(z, f, 0, 1e-2).singular_value, report.predicted_error + 5e-3);
  });
}

TEST(Bivariate, EveryPublishedExponentFollowsItsFormula) {
  for (const auto& [p, formula] : reference::kBivariate)
    for_shapes([&](core::Device& device, const Factors& f, const core::Tensor& g, const core::Tensor& z) {
      if (p == "1/2" && f.s.size() == 1) return;  // rank one: see Pitfall15
      const SpectralOptions o = options("bivariate", p);
      const SpectralReport report = make_spectral_power(o)->apply(device, g, z);
      EXPECT_EQ(report.steps, 6);
      const double gain = std::pow(frobenius(f), o.p.value());
      EXPECT_LE(distance(z, f, [&](double x) { return gain * reference::bivariate(p, x); }), 1e-4) << p;
    });
}

TEST(CoupledNewton, ReachesItsRidgedPower) {
  for (const char* p : {"1/2", "1/4"})
    for_shapes([&](core::Device& device, const Factors& f, const core::Tensor& g, const core::Tensor& z) {
      const SpectralOptions o = options("coupled_newton", p);
      const SpectralReport report = make_spectral_power(o)->apply(device, g, z);
      EXPECT_EQ(report.steps, o.p.denominator == 2 ? 30 : 60);
      const double n = static_cast<double>(f.s.size()), gain = std::pow(frobenius(f), o.p.value());
      const auto half = [&](double x, double trace) { return x * std::pow(x * x + 1e-6 + 1e-4 * trace / n, -0.25); };
      double trace = 0;
      for (double s : f.s) trace += std::pow(half(s / frobenius(f), 1), 2);
      // σ far above the ridge; fifteen iterations do not converge for the smallest.
      EXPECT_LE(distance(z, f,
                         [&](double x) {
                           const double once = half(x, 1);
                           return gain * (o.p.denominator == 2 ? once : half(once, trace));
                         }),
                5e-3)
          << p;
    });
}

// flops() and workspace_bytes() are what apply() executes and takes. On a GPU blocks of symmetric products
// are wider, so that more is executed, and the SVD is the host's, in the host's memory.
TEST(SpectralPower, CostsAreThoseOfOneCall) {
  const std::pair<const char*, const char*> methods[] = {{"coupled_minimax", "0"},
                                                         {"coupled_minimax", "1/4"},
                                                         {"coupled_minimax", "1/3"},
                                                         {"coupled_minimax", "1/2"},
                                                         {"coupled_minimax", "2/3"},
                                                         {"coupled_minimax", "3/4"},
                                                         {"coupled_minimax", "1"},
                                                         {"coupled_minimax", "-1/4"},
                                                         {"coupled_minimax", "-1/2"},
                                                         {"coupled_minimax", "15/16"},
                                                         {"newton_schulz5", "0"},
                                                         {"polar_express", "0"},
                                                         {"symmetric_newton_schulz5", "0"},
                                                         {"gram_newton_schulz", "0"},
                                                         {"bivariate", "1/3"},
                                                         {"bivariate", "1/15"},
                                                         {"bivariate", "1/2"},
                                                         {"bivariate", "13/15"},
                                                         {"coupled_newton", "1/2"},
                                                         {"coupled_newton", "1/4"},
                                                         {"svd", "1/2"}};
  auto device = make_test_device(1, core::Bfloat16::emulated);
  for (const auto& [method, p] : methods)
    for (core::Dtype dtype : {core::Dtype::float32, core::Dtype::bfloat16})
      for (auto [rows, cols] : {std::array<std::int64_t, 2>{80, 80}, {260, 70}, {70, 260}}) {
        SpectralOptions o = options(method, p);
        o.dtype = dtype;
        if (dtype == core::Dtype::bfloat16 && o.method != "coupled_minimax" && o.method != "newton_schulz5") continue;
        const core::Tensor g = to_tensor(*device, gaussian(rows, cols, 1)), z = empty_like(*device, g);
        const auto power = make_spectral_power(o);
        device->allocator()->reset_peak();
        const SpectralReport report = power->apply(*device, g, z);
        SCOPED_TRACE(fmt::format("{} {} {}x{} {}", method, p, rows, cols, core::name_of(dtype)));
        const std::int64_t n = std::min(rows, cols);
        const double wider = core::symmetric_flops(n, n, device->kind()) / core::symmetric_flops(n, n);
        EXPECT_GE(report.flops, power->flops(rows, cols) * (1 - 1e-15));
        EXPECT_LE(report.flops, power->flops(rows, cols) * wider * (1 + 1e-15));
        EXPECT_EQ(device->allocator()->use().peak_of(core::Category::exchange),
                  on_gpu() && o.method == "svd" ? 0 : power->workspace_bytes(rows, cols));
        EXPECT_EQ(device->allocator()->use().of(core::Category::exchange), 0);
      }
}

TEST(SpectralPower, WhatAMethodCannotDoIsRefusedByName) {
  EXPECT_THAT(message(options("newton_shulz5", "0")), testing::AllOf(HasSubstr("newton_schulz5"), HasSubstr("bivariate")));
  EXPECT_THAT(message(options("newton_schulz5", "1/2")), HasSubstr("p = 0 only"));
  EXPECT_THAT(message(options("polar_express", "1/2")), HasSubstr("p = 0 only"));
  EXPECT_THAT(message(options("bivariate", "2/3")), HasSubstr("13/15"));
  EXPECT_THAT(message(options("coupled_newton", "1/3")), HasSubstr("1/2 and 1/4"));
  for (std::string_view method : kMethods) {
    SpectralOptions o = options(std::string(method), method == "coupled_newton" ? "1/2"
                                                     : method == "bivariate"    ? "1/3"
                                                                                : "0");
    EXPECT_EQ(message(o), "") << method;
    if (method == "coupled_minimax" || is_polar_only(method)) continue;
    o.dtype = core::Dtype::float16;
    EXPECT_THAT(message(o), testing::AllOf(HasSubstr("float16"), HasSubstr("float32"))) << method;
  }
  SpectralOptions o = options("svd", "1/2");
  o.dtype = core::Dtype::bfloat16;
  EXPECT_THAT(message(o), HasSubstr("bfloat16"));
  for (double bad : {0.0, 1.0, 1e-30, -1.0, double(NAN)}) {
    o = options("coupled_minimax", "1/2");
    o.epsilon = bad;
    EXPECT_THAT(message(o), HasSubstr("epsilon")) << bad;
    o = options("coupled_minimax", "1/2");
    o.tolerance = bad;
    EXPECT_THAT(message(o), HasSubstr("tolerance")) << bad;
  }
}

TEST(SpectralPower, TensorsOfTheWrongKindAreRefused) {
  auto device = test::make_test_device(1);
  const auto power = make_spectral_power(options("coupled_minimax", "1/2"));
  const core::Tensor g = to_tensor(*device, gaussian(6, 4, 1)), z = empty_like(*device, g);
  EXPECT_THROW(power->apply(*device, g, g), core::InternalError);
  EXPECT_THROW(power->apply(*device, g, z.view({4, 6})), core::InternalError);
  EXPECT_THROW(power->apply(*device, g.view({24}), z.view({24})), core::InternalError);
  EXPECT_THROW(power->apply(*device, g.flat(0, 12).view({4, 3}), g.flat(11, 12).view({4, 3})), core::InternalError);
}

// ---- bfloat16 ----

TEST(Bfloat16Storage, IsRefusedWithTheReasonWhereTheProcessorHasNone) {
  auto device = test::make_cpu_test_device(1);
  SpectralOptions o = options("coupled_minimax", "1/2");
  o.dtype = core::Dtype::bfloat16;
  const auto power = make_spectral_power(o);
  const core::Tensor g = to_tensor(*device, gaussian(8, 8, 1)), z = empty_like(*device, g);
  if (core::product_refusal(device->queue(), core::Dtype::bfloat16).empty()) {
    EXPECT_NO_THROW(power->apply(*device, g, z));
    return;
  }
  try {
    power->apply(*device, g, z);
    FAIL() << "not refused";
  } catch (const core::Error& error) {
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("dtype: bfloat16"), HasSubstr("avx512_bf16")));
  }
}

// Bounds of the same size as the accuracy of eight-bit storage in any implementation: a few per cent in norm.
TEST(Bfloat16Storage, EmulatedResultsAreOfItsAccuracy) {
  const std::pair<const char*, double> cases[] = {{"0", 0.4}, {"1/3", 0.12}, {"1/2", 0.1}, {"3/4", 0.06}};
  for (int threads : {1, 2}) {
    auto device = test::make_test_device(threads, core::Bfloat16::emulated);
    for (auto [rows, cols] : {std::array<std::int64_t, 2>{64, 64}, {128, 48}, {48, 128}}) {
      const Factors f = known_factors("harmonic", rows, cols);
      const core::Tensor g = to_tensor(*device, compose(f, [](double s) { return s; }), 1e-5), z = empty_like(*device, g);
      for (const auto& [p, bound] : cases) {
        SpectralOptions o = options("coupled_minimax", p);
        o.dtype = core::Dtype::bfloat16;
        const SpectralReport report = make_spectral_power(o)->apply(*device, g, z);
        EXPECT_EQ(report.restarts, report.steps - 1);
        EXPECT_LE(errors_of(z, f, o.p.value(), 1e-3, 1e-5).frobenius, bound) << rows << "x" << cols << ", p = " << p;
      }
    }
  }
}

// ---- storages of tensor cores ----

TEST(GpuStorage, IsRefusedOnACpuByNameWithWhatIsValid) {
  using core::DeviceKind;
  EXPECT_EQ(parse_storage("auto", "coupled_minimax", DeviceKind::cpu), core::Dtype::float32);
  EXPECT_EQ(parse_storage("auto", "coupled_minimax", DeviceKind::cuda), core::Dtype::float16);
  EXPECT_EQ(parse_storage("auto", "coupled_newton", DeviceKind::cuda), core::Dtype::float32);
  EXPECT_EQ(parse_storage("tf32", "coupled_minimax", DeviceKind::cuda), core::Dtype::tf32);
  for (const char* name : {"tf32", "float16", "float64"}) {
    try {
      parse_storage(name, "coupled_minimax", DeviceKind::cpu);
      FAIL() << name << " is not refused";
    } catch (const core::Error& error) {
      EXPECT_THAT(error.what(), testing::AllOf(HasSubstr(name), HasSubstr("auto, float32")));
    }
  }
  auto device = test::make_cpu_test_device(1);
  const core::Tensor g = to_tensor(*device, gaussian(8, 8, 1)), z = empty_like(*device, g);
  SpectralOptions o = options("coupled_minimax", "1/2");
  o.dtype = core::Dtype::float16;
  EXPECT_THROW(make_spectral_power(o)->apply(*device, g, z), core::Error);
}

TEST(Bfloat16Storage, NewtonSchulzAndPolarExpress) {
  auto device = test::make_test_device(1, core::Bfloat16::emulated);
  const Factors f = known_factors("gaussian", 96, 32);
  const core::Tensor g = to_tensor(*device, compose(f, [](double s) { return s; })), z = empty_like(*device, g);
  for (const char* method : {"newton_schulz5", "polar_express"}) {
    SpectralOptions o = options(method, "0");
    o.dtype = core::Dtype::bfloat16;
    make_spectral_power(o)->apply(*device, g, z);
    EXPECT_LE(errors_of(z, f, 0).frobenius, 0.35) << method;  // the quintic itself is 30 % off
  }
}
