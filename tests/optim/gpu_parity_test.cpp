// Every operation on the CPU and on a GPU, from the same numbers: values and gradients agree to the rounding
// of their type. (The operations' own tests compare each device with references in double precision, on small
// shapes.)
#include <gtest/gtest.h>

#include "core/autograd/ops/activation.h"
#include "core/autograd/ops/attention.h"
#include "core/autograd/ops/common.h"
#include "core/autograd/ops/embedding.h"
#include "core/autograd/ops/head_loss.h"
#include "core/autograd/ops/linear.h"
#include "core/autograd/ops/norm.h"
#include "core/autograd/ops/residual.h"
#include "core/autograd/ops/rotary.h"
#include "core/device/blas.h"
#include "optim/rules/adamw.h"
#include "optim/rules/muonp.h"
#include "optim/rules/sgd.h"
#include "optim/spectral/gradient_norm.h"
#include "optim/spectral/spectral_norm.h"
#include "optim/spectral/spectral_power.h"
#include "tests/core/autograd/op_check.h"

using namespace muonp;
using namespace muonp::core;
using namespace muonp::core::testing;
using namespace muonp::optim;

namespace {

using Results = std::vector<std::pair<std::string, Numbers>>;

Numbers random(const Shape& shape, std::uint64_t seed, Dtype dtype) {
  Numbers values(static_cast<std::size_t>(element_count(shape)));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto value = static_cast<float>(normal(seed, 0, i));
    values[i] = dtype == Dtype::bfloat16 ? double(float(bfloat16(value))) : double(value);
  }
  return values;
}

// Runs `compute` on the CPU, then on the GPU; results differ by at most `tolerance` times their largest
// value.
void expect_parity(double tolerance, const std::function<Results(Device&)>& compute) {
  const auto on = [&](test::TestDevice device) { return compute(*device); };
  const Results cpu = on(test::make_cpu_test_device(2, Bfloat16::emulated));
  const Results gpu = on(test::remember(make_cuda_device(0, "test")));
  ASSERT_EQ(cpu.size(), gpu.size());
  for (std::size_t r = 0; r < cpu.size(); ++r) {
    ASSERT_EQ(cpu[r].second.size(), gpu[r].second.size());
    double largest = 0;
    for (const double v : cpu[r].second) largest = std::max(largest, std::abs(v));
    for (std::size_t i = 0; i < cpu[r].second.size(); ++i)
      ASSERT_NEAR(cpu[r].second[i], gpu[r].second[i], tolerance * largest) << cpu[r].first << ", element " << i;
  }
}

// Of sums over k terms, in another order on each device: 64 roundings, and those that exp() makes of a logit
// of √k numbers' sizes. In bfloat16 it is the values that are rounded, once by each operation, to either
// side.
double rounding(Dtype dtype, std::int64_t k) {
  return dtype == Dtype::bfloat16 ? 4 * 0x1p-9 : (64 + static_cast<double>(k) / 4) * 0x1p-24;
}

struct Operation {
  std::string name;
  std::vector<Shape> inputs, parameters;
  std::function<Variable(Tape&, const std::vector<Variable>&, const std::vector<Parameter*>&)> run;
  std::int64_t terms;  // of the longest sum
};

std::vector<std::int32_t> ids(std::int64_t count, std::uint64_t below) {
  std::vector<std::int32_t> values;
  for (std::int64_t i = 0; i < count; ++i)
    values.push_back(static_cast<std::int32_t>(random_below(3, 0, static_cast<std::uint64_t>(i), below)));
  return values;
}

// Widths on both sides of where a row goes from a warp to a block (1024), and ones that are no multiple of a
// pack.
std::vector<Operation> operations() {
  using V = std::vector<Variable>;
  using P = std::vector<Parameter*>;
  std::vector<Operation> all;
  for (const std::int64_t width : {65, 1032}) {
    const auto add = [&](const std::string& name, std::vector<Shape> inputs, std::vector<Shape> parameters, auto run) {
      all.push_back({fmt::format("{}, width {}", name, width), std::move(inputs), std::move(parameters), run,
                     std::max<std::int64_t>(width, 301)});
    };
    const Shape x = {2, 9, width};
    add("linear", {x}, {{48, width}, {48}},
        [](Tape& t, const V& v, const P& p) { return ops::linear(t, v[0], *p[0], p[1]); });
    add("embedding", {}, {{33, width}, {9, width}}, [](Tape& t, const V&, const P& p) {
      return ops::embedding(t, to_ids({2, 9}, ids(18, 33)), *p[0], p[1]);
    });
    add("layer_norm", {x}, {{width}, {width}},
        [](Tape& t, const V& v, const P& p) { return ops::layer_norm(t, v[0], *p[0], p[1]); });
    add("rms_norm", {x}, {{width}}, [](Tape& t, const V& v, const P& p) { return ops::rms_norm(t, v[0], *p[0]); });
    add("sum and its norm", {x, x}, {{width}}, [](Tape& t, const V& v, const P& p) {
      const ops::SumAndNorm both = ops::add_and_rms_norm(t, v[0], v[1], *p[0]);
      return ops::add(t, both.sum, both.norm);
    });
    for (const std::int64_t hidden : {61, 64})
      add(fmt::format("gelu of {}", hidden), {x}, {{hidden, width}, {hidden}, {40, hidden}},
          [](Tape& t, const V& v, const P& p) {
            return ops::linear(t, ops::linear_gelu(t, v[0], {p[0], p[1]}), {p[2], nullptr});
          });
    add("relu_squared", {x}, {}, [](Tape& t, const V& v, const P&) { return ops::relu_squared(t, v[0]); });
    add("swiglu", {{2, 9, 2 * width}}, {}, [](Tape& t, const V& v, const P&) { return ops::swiglu(t, v[0]); });
    add("add", {x, x}, {}, [](Tape& t, const V& v, const P&) { return ops::add(t, v[0], v[1]); });
    add("dropout", {x}, {}, [](Tape& t, const V& v, const P&) { return ops::dropout(t, v[0], {0.3, 5, 7, 3}); });
    add("head_loss", {x}, {{301, width}}, [](Tape& t, const V& v, const P& p) {
      return ops::head_loss(t, v[0], *p[0], to_ids({2, 9}, ids(18, 301)), 7);
    });
  }
  for (const std::int64_t time : {5, 130}) {
    const Shape qkv = {2, time, 3 * 48};
    all.push_back({fmt::format("attention over {}", time),
                   {qkv},
                   {},
                   [](Tape& t, const V& v, const P&) {
                     return ops::attention(t, v[0], {3, 3, 16});
                   },
                   time});
    // In bfloat16 by the kernel of our own: documents of 3 and of 70, in a window, two query heads on each key head.
    all.push_back({fmt::format("attention of documents over {}", time),
                   {{2, time, 8 * 16}},
                   {},
                   [time](Tape& t, const V& v, const P&) {
                     std::vector<std::int32_t> begins(std::size_t(2 * time));
                     for (std::size_t i = 0; i < begins.size(); ++i) {
                       const std::int64_t at = std::int64_t(i) % time;
                       begins[i] = at < 3 ? 0 : at < 73 ? 3 : 73;
                     }
                     return ops::attention(t, v[0], {4, 2, 16, 40}, ops::on_device(t, to_ids({2, time}, begins)));
                   },
                   time});
    all.push_back({fmt::format("rotary over {}", time),
                   {qkv},
                   {},
                   [](Tape& t, const V& v, const P&) {
                     ops::RotaryTable angles(ops::rotary_frequencies(16), v[0]->value.dim(1));
                     return ops::rotary(t, v[0], {3, 3, 16}, angles);
                   },
                   1});
  }
  return all;
}

Results forward_and_backward(Device& device, const Operation& operation, Dtype dtype) {
  std::deque<Parameter> storage;
  ParameterList parameters;
  for (const Shape& shape : operation.parameters) {
    Parameter& p = storage.emplace_back();
    p.name = fmt::format("p{}", storage.size());
    p.shape = shape;
    parameters.push_back(&p);
  }
  PlainParameters plain(device, parameters, dtype, 1);
  std::uint64_t seed = 0;
  for (Parameter* p : parameters) p->value = to_tensor(device, p->shape, dtype, random(p->shape, ++seed, dtype));
  Tape tape(device, true);
  std::vector<Variable> inputs;
  for (const Shape& shape : operation.inputs)
    inputs.push_back(tape.variable(to_tensor(device, shape, dtype, random(shape, ++seed, dtype))));
  const Variable y = operation.run(tape, inputs, parameters);
  Results results = {{"value", to_numbers(y->value)}};
  plain.start_step();
  tape.backward(weighted_sum(tape, y, random(y->value.shape(), 99, dtype)), 1, parameters, plain);
  for (const Variable& input : inputs) results.emplace_back("gradient of an input", to_numbers(input->gradient->tensor));
  for (const Parameter* p : parameters) results.emplace_back("gradient of " + p->name, to_numbers(p->gradient));
  return results;
}

Tensor vector_of(Device& device, std::int64_t n, std::uint64_t seed) {
  return to_tensor(device, {n}, Dtype::float32, random({n}, seed, Dtype::float32));
}

}  // namespace

TEST(GpuParity, Operations) {
  for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16})
    for (const Operation& operation : operations()) {
      SCOPED_TRACE(fmt::format("{} in {}", operation.name, name_of(dtype)));
      expect_parity(rounding(dtype, operation.terms),
                    [&](Device& device) { return forward_and_backward(device, operation, dtype); });
    }
}

TEST(GpuParity, Products) {
  for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16})
    for (const Op a : {Op::none, Op::transpose})
      for (const Op b : {Op::none, Op::transpose})
        expect_parity(rounding(dtype, 130), [&](Device& device) {
          const Shape of_a = a == Op::none ? Shape{70, 130} : Shape{130, 70};
          const Shape of_b = b == Op::none ? Shape{130, 45} : Shape{45, 130};
          const Tensor x = to_tensor(device, of_a, dtype, random(of_a, 1, dtype)),
                       y = to_tensor(device, of_b, dtype, random(of_b, 2, dtype)),
                       z = to_tensor(device, {70, 45}, dtype, random({70, 45}, 3, dtype));
          gemm(device.queue(), a, b, 0.5f, MatrixView(x), MatrixView(y), 0.25f, MatrixView(z));
          return Results{{"product", to_numbers(z)}};
        });
}

TEST(GpuParity, Updates) {
  for (const std::int64_t n : {1, 1023, 4096})
    expect_parity(rounding(Dtype::float32, n), [&](Device& device) {
      Queue& queue = device.queue();
      const Tensor w = vector_of(device, n, 1), g = vector_of(device, n, 2), m = vector_of(device, n, 3),
                   v = vector_of(device, n, 2), u = vector_of(device, n, 4);
      test::set_values(v, [&] {
        std::vector<float> squares = test::values_of(v);
        for (float& x : squares) x *= x;
        return squares;
      }());
      Results results;
      const auto note = [&](const char* what) {
        for (const Tensor* t : {&w, &g, &m, &v}) results.emplace_back(what, to_numbers(*t));
      };
      adamw_update(queue, {.weight_decay = 0.1}, 1e-2, 3, 0.5, w, g, m, v);
      note("adamw");
      sgd_update(queue, {.momentum = 0.9, .nesterov = true, .weight_decay = 0.1}, 1e-2, 0.5, w, g, m);
      sgd_update(queue, {.momentum = 0}, 1e-2, 0.5, w, g, Tensor());
      note("sgd");
      muonp_momentum(queue, {}, 0.5, g, m);
      apply_update(queue, w, {u}, 1e-2, 0.1);
      note("muonp");
      results.push_back({"norm", {sum_of_squares(queue, w).sum, inner_product(queue, w, g)}});
      return results;
    });
}

// Rounding of a bound on the largest singular value moves a recurrence along its curve of designed errors:
// both devices' results are within that of the exact one. Methods without such a bound amplify rounding up to
// 1e3 times.
TEST(GpuParity, SpectralPowers) {
  for (const std::string_view method : spectral::kMethods)
    for (const char* p : {"0", "1/2"}) {
      const spectral::Exponent exponent = spectral::parse_exponent(p);
      const bool polar = spectral::is_polar_only(method);
      if (polar != (exponent.numerator == 0) && method != "coupled_minimax" && method != "svd") continue;
      SCOPED_TRACE(fmt::format("{} at p = {}", method, p));
      const double designed = method == "coupled_minimax" ? spectral::SpectralOptions().tolerance : 0;
      expect_parity(designed + 1000 * 0x1p-24, [&](Device& device) {
        const Shape shape = {2, 96, 40};
        const Tensor g = to_tensor(device, shape, Dtype::float32, random(shape, 5, Dtype::float32)),
                     z = Tensor::empty(device, shape, Dtype::float32, Category::other);
        spectral::make_spectral_power({.method = std::string(method), .p = exponent})->apply(device, g, z);
        Results results = {{"Z", to_numbers(z)}};
        for (const ShapeScale scale :
             {ShapeScale::match_rms, ShapeScale::spectral, ShapeScale::rms1, ShapeScale::schatten}) {
          const Tensor update = Tensor::empty(device, {96, 40}, Dtype::float32, Category::other);
          update.copy_from(device.queue(), z[0].view({96, 40}));
          scale_update(device.queue(), scale, exponent.value(), g[0], update);
          results.emplace_back("scaled update", to_numbers(update));
        }
        results.push_back({"spectral norm", {spectral_norm(device.queue(), g[0])}});
        return results;
      });
    }
}
