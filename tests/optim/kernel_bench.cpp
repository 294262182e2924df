// Rates of the kernels that memory bounds, in bytes a second as the kernel needs them, beside a plain copy:
// how far each is from its floor.  build/release/tests/optim/kernel_bench            on the CPU
//                  MUONP_TEST_DEVICE=cuda .../kernel_bench           on a GPU
#include <benchmark/benchmark.h>

#include "core/autograd/ops/attention.h"
#include "core/autograd/ops/norm.h"
#include "core/autograd/ops/residual.h"
#include "core/autograd/plain_parameters.h"
#include "core/device/epilogue.h"
#include "optim/rules/adamw.h"
#include "optim/rules/muonp.h"
#include "optim/spectral/gradient_norm.h"
#include "tests/support/test_device.h"

using namespace muonp;
using core::Tensor;

namespace {

constexpr std::int64_t kRows = 4096, kCols = 1024, kElements = kRows * kCols;

struct Bench {
  test::TestDevice device = test::make_test_device(core::available_cores());
  core::Queue& queue = device->queue();
  core::Dtype dtype = core::Dtype::float32;

  Tensor tensor() const { return Tensor::zeros(*device, {kRows, kCols}, dtype, core::Category::other); }
  // `arrays`: how many tensors of the benchmark's size a call reads and writes.
  template <class F>
  void run(benchmark::State& state, int arrays, const F& f) {
    f();
    queue.synchronize();
    for (auto _ : state) {
      f();
      queue.synchronize();
    }
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * arrays * kElements * core::size_of(dtype));
  }
};

void copy(benchmark::State& state) {
  Bench b;
  const Tensor x = b.tensor(), y = b.tensor();
  b.run(state, 2, [&] { y.copy_from(b.queue, x); });
}

template <class Op>
void operation(benchmark::State& state, core::Dtype dtype, int arrays, const Op& op) {
  Bench b;
  b.dtype = dtype;
  core::Tape tape(*b.device, false);
  const core::Variable x = tape.constant(b.tensor());
  b.run(state, arrays, [&] { op(tape, x); });
}

void layer_norm(benchmark::State& state, core::Dtype dtype) {
  Bench b;
  b.dtype = dtype;
  core::Parameter gain{"gain", {kCols}, core::ParameterKind::vector, {}, {}, {}};
  core::PlainParameters plain(*b.device, {&gain}, dtype, 1);
  core::Tape tape(*b.device, false);
  const core::Variable x = tape.constant(b.tensor());
  b.run(state, 2, [&] { core::ops::layer_norm(tape, x, gain, nullptr); });
}

void adamw(benchmark::State& state) {
  Bench b;
  const Tensor w = b.tensor(), g = b.tensor(), m = b.tensor(), v = b.tensor();
  b.run(state, 7, [&] { optim::adamw_update(b.queue, {}, 1e-3, 1, 1, w, g, m, v); });
}

void momentum(benchmark::State& state) {
  Bench b;
  const Tensor g = b.tensor(), m = b.tensor();
  b.run(state, 4, [&] { optim::muonp_momentum(b.queue, {}, 1, g, m); });
}

void sum_of_squares(benchmark::State& state) {
  Bench b;
  const Tensor x = b.tensor();
  b.run(state, 1, [&] { benchmark::DoNotOptimize(optim::sum_of_squares(b.queue, x)); });
}

const auto gelu = [](core::Tape& tape, const core::Variable& x) {
  core::gelu(tape.queue(), x->value, tape.activation(x->value.shape(), x->value.dtype()));
};
const auto add = [](core::Tape& tape, const core::Variable& x) { core::ops::add(tape, x, x); };

BENCHMARK(copy)->UseRealTime();
BENCHMARK_CAPTURE(operation, add_float32, core::Dtype::float32, 2, add)->UseRealTime();
BENCHMARK_CAPTURE(operation, gelu_float32, core::Dtype::float32, 2, gelu)->UseRealTime();
BENCHMARK_CAPTURE(operation, gelu_bfloat16, core::Dtype::bfloat16, 2, gelu)->UseRealTime();
BENCHMARK_CAPTURE(layer_norm, float32, core::Dtype::float32)->UseRealTime();
BENCHMARK_CAPTURE(layer_norm, bfloat16, core::Dtype::bfloat16)->UseRealTime();
BENCHMARK(adamw)->UseRealTime();
BENCHMARK(momentum)->UseRealTime();
BENCHMARK(sum_of_squares)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
