// A matrix that ranks share: the same as the whole to rounding, for every size of a group, shape, exponent and storage.
#include <gmock/gmock.h>

#include <functional>
#include <mutex>

#include "core/base/error.h"
#include "optim/engine/rank_sharers.h"
#include "optim/spectral/spectral_power.h"
#include "tests/optim/spectral/spectral_reference.h"
#include "tests/support/device_ranks.h"

namespace muonp::optim::spectral {
namespace {

using core::Tensor;

std::unique_ptr<SpectralPower> power_of(const char* method, const char* p, core::Dtype dtype) {
  SpectralOptions o;
  o.method = method;
  o.p = parse_exponent(p);
  o.dtype = dtype;
  return make_spectral_power(o);
}

struct Case {
  const char *method, *p;
  core::Dtype dtype;
  std::int64_t rows, cols;
};

// Of [rows, cols], the part of one sharer, dense: where its element (r, c) lies in the whole.
struct Part {
  std::int64_t row, col, rows, cols, pitch;
  Part(const Case& c, int sharers, int sharer) : row(0), col(0), rows(c.rows), cols(c.cols), pitch(c.cols) {
    const bool wide = c.rows < c.cols;
    std::int64_t &begin = wide ? col : row, &length = wide ? cols : rows;
    begin = part_begin(wide ? c.cols : c.rows, sharers, sharer);
    length = part_begin(wide ? c.cols : c.rows, sharers, sharer + 1) - begin;
  }
  std::size_t at(std::int64_t r, std::int64_t c) const { return std::size_t((row + r) * pitch + col + c); }
};

// On a CPU with bfloat16 in software.
test::TestDevice cpu() { return test::make_cpu_test_device(1, core::Bfloat16::emulated); }

void run_on_ranks(int ranks, const std::function<void(dist::Communicator&, core::Device&)>& body) {
  if (test::on_gpu()) return test::run_on_devices(ranks, body);
  dist::run_ranks(ranks, [&](dist::Communicator& communicator) { body(communicator, *cpu()); });
}

// Every rank's part of the power, put together.
std::vector<float> share(const Case& c, int ranks, const std::vector<float>& g) {
  const auto power = power_of(c.method, c.p, c.dtype);
  const SharedWork work = power->shared_work(c.rows, c.cols, ranks).value();
  std::vector<float> shared(g.size());
  std::mutex mutex;
  run_on_ranks(ranks, [&](dist::Communicator& communicator, core::Device& device) {
    const Part part(c, ranks, communicator.rank());
    const Tensor in = Tensor::empty(device, {part.rows, part.cols}, core::Dtype::float32, core::Category::other);
    const Tensor out = Tensor::empty(device, {part.rows, part.cols}, core::Dtype::float32, core::Category::other);
    std::vector<float> mine;
    for (std::int64_t r = 0; r < part.rows; ++r)
      for (std::int64_t k = 0; k < part.cols; ++k) mine.push_back(g[part.at(r, k)]);
    test::set_values(in, mine);
    dist::AsyncQueue async(dist::AsyncQueue::Mode::inline_);
    core::Stopwatch waits(device.queue(), "exchange");
    RankSharers sharers(communicator, async, {0, ranks}, waits);
    power->apply_share(device, c.rows, c.cols, in, out, sharers);
    sharers.idle_until(work.exchanges);
    mine = test::values_of(out);
    const std::lock_guard lock(mutex);
    for (std::int64_t r = 0; r < part.rows; ++r)
      for (std::int64_t k = 0; k < part.cols; ++k) shared[part.at(r, k)] = mine[std::size_t(r * part.cols + k)];
  });
  return shared;
}

std::vector<float> whole(const Case& c, const std::vector<float>& g) {
  const auto device = test::on_gpu() ? test::make_test_device(1) : cpu();
  const Tensor in = Tensor::empty(*device, {c.rows, c.cols}, core::Dtype::float32, core::Category::other);
  test::set_values(in, g);
  const Tensor out = test::empty_like(*device, in);
  power_of(c.method, c.p, c.dtype)->apply(*device, in, out);
  return test::values_of(out);
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, total = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(double(a[i]) - double(b[i]), 2);
    total += std::pow(double(b[i]), 2);
  }
  return std::sqrt(difference / total);
}

std::vector<float> values_of(const test::Factors& f, double scale = 1) {
  std::vector<float> values;
  for (const double x : test::compose(f, [](double s) { return s; }).values) values.push_back(float(scale * x));
  return values;
}

}  // namespace

// A product that is cut has other last bits, which the first polynomials magnify: a tenth of the error that the design
// allows.
TEST(Sharing, IsTheWholeToRoundingForEverySizeAndShape) {
  for (const auto& [rows, cols] : {std::pair{72, 24}, std::pair{24, 72}, std::pair{33, 33}, std::pair{8, 131}})
    for (const char* p : {"0", "1/4", "1/3", "1/2", "3/4", "-1/4", "1"}) {
      const Case c{"coupled_minimax", p, core::Dtype::float32, rows, cols};
      test::Factors f = test::known_factors("linear", rows, cols);
      for (double& sigma : f.s) sigma = 0.1 + 0.9 * sigma;
      const std::vector<float> g = values_of(f, 1e-3), alone = whole(c, g);
      for (int ranks : {1, 2, 3, 4}) {
        SCOPED_TRACE(fmt::format("[{}, {}], p = {}, {} ranks", rows, cols, p, ranks));
        const std::vector<float> shared = share(c, ranks, g);
        EXPECT_LT(distance(shared, alone), 1e-3);
        test::Dense dense(rows, cols);
        std::ranges::copy(shared, dense.values.begin());
        const test::Errors errors =
            test::errors_of(test::to_tensor(*test::make_test_device(1), dense), f, parse_exponent(p).value(), 1e-3, 1e-3);
        EXPECT_LT(errors.singular_value, 0.01);  // what the design allows
        if (ranks == 3) {
          EXPECT_EQ(share(c, ranks, g), shared);  // the same bits every time
        }
      }
    }
}

TEST(Sharing, NarrowStorageAndItsOtherMethods) {
  for (const Case& c : {Case{"coupled_minimax", "1/2", core::Dtype::bfloat16, 72, 24},
                        Case{"coupled_minimax", "0", core::Dtype::bfloat16, 24, 72},
                        Case{"gram_newton_schulz", "0", core::Dtype::float32, 40, 24},
                        Case{"symmetric_newton_schulz5", "0", core::Dtype::float32, 24, 40}}) {
    test::Factors f = test::known_factors("linear", c.rows, c.cols);
    for (double& sigma : f.s) sigma = 0.1 + 0.9 * sigma;
    const std::vector<float> g = values_of(f), alone = whole(c, g);
    for (int ranks : {1, 2, 3, 4}) {
      SCOPED_TRACE(fmt::format("{} p = {}, {} ranks", c.method, c.p, ranks));
      EXPECT_LT(distance(share(c, ranks, g), alone), c.dtype == core::Dtype::float32 ? 1e-4 : 3e-2);
    }
  }
}

TEST(Sharing, AZeroMatrixIsZeroAndAnEntryThatIsNotFiniteAnErrorOnAll) {
  const Case c{"coupled_minimax", "1/2", core::Dtype::float32, 24, 12};
  std::vector<float> g(24 * 12, 0.0f);
  EXPECT_EQ(share(c, 3, g), g);
  g[20] = std::numeric_limits<float>::quiet_NaN();  // of the first rank
  EXPECT_THAT([&] { share(c, 3, g); }, testing::ThrowsMessage<core::Error>(testing::HasSubstr("finite")));
}

TEST(Sharing, WhatIsSharedAndBetweenHowMany) {
  const auto power = power_of("coupled_minimax", "1/2", core::Dtype::float32);
  EXPECT_TRUE(power->shared_work(100, 12, 6));
  EXPECT_FALSE(power->shared_work(100, 12, 7));  // two rows of a product each
  EXPECT_FALSE(power_of("svd", "1/2", core::Dtype::float32)->shared_work(100, 12, 2));
}

}  // namespace muonp::optim::spectral
