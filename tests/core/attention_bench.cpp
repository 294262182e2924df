// Times of attention, forward and backward, and its rate by the products of what queries see: two forward, five backward.
//   build/release/tests/core/attention_bench [--benchmark_filter=...]                       on the CPU
//   MUONP_TEST_DEVICE=cuda .../attention_bench                                              on a GPU, where the labels say
// which kernel it was: whole sequences in bfloat16 are cuDNN's, documents, windows and float32 our own kernels'.
#include <benchmark/benchmark.h>

#include "core/base/storage.h"
#include "core/device/attention.h"
#include "tests/support/test_device.h"

using namespace muonp::core;
using namespace muonp;

namespace {

struct Case {
  std::int64_t batch, time;
  AttentionHeads heads;
  std::int64_t document = 0;  // length of each; 0: whole sequences
  Dtype dtype = Dtype::bfloat16;
};

// Pairs of a query and a key that it sees, of one head of all sequences.
double pairs(const Case& c, const std::vector<std::int32_t>& begins) {
  double seen = 0;
  for (std::int64_t t = 0; t < c.time; ++t) {
    const std::int64_t window = c.heads.window == 0 ? 0 : t - c.heads.window + 1;
    seen += static_cast<double>(t + 1 - std::max({std::int64_t{0}, window, std::int64_t{begins[std::size_t(t)]}}));
  }
  return seen * static_cast<double>(c.batch);
}

void attention(benchmark::State& state, const Case& c, bool backward) {
  const test::TestDevice device = test::make_test_device(available_cores());
  const auto tensor = [&](Shape shape, Dtype dtype) {
    return Tensor::zeros(*device, std::move(shape), dtype, Category::other);
  };
  // Numbers that differ: a GPU multiplies zeros at a higher clock.
  const auto numbers = [&](Shape shape) {
    const Tensor t = tensor(std::move(shape), c.dtype);
    const HostView host(device->queue(), t, Access::write);
    with_float_type(c.dtype, [&]<class T>(T) {
      std::uint32_t bits = 1;
      for (T& x : host.span<T>()) x = T(static_cast<float>((bits = bits * 1664525u + 1013904223u) >> 8) * 0x1p-23f - 1);
    });
    host.upload();
    return t;
  };
  const std::int64_t out_width = c.heads.query_width();
  std::vector<std::int32_t> begins(std::size_t(c.batch * c.time));
  if (c.document != 0)
    for (std::size_t i = 0; i < begins.size(); ++i)
      begins[i] = static_cast<std::int32_t>(std::int64_t(i) % c.time / c.document * c.document);
  const Tensor qkv = numbers({c.batch, c.time, c.heads.width()}), out = tensor({c.batch, c.time, out_width}, c.dtype),
               dqkv = tensor(qkv.shape(), c.dtype), dout = numbers(out.shape()),
               sums = tensor({c.batch, c.heads.queries, c.time}, Dtype::float32);
  Tensor documents;
  if (c.document != 0) {
    documents = tensor({c.batch, c.time}, Dtype::int32);
    device->queue().write(documents.raw(), begins.data(), documents.bytes());
  }
  const AttentionShape shape{c.batch, c.time, c.heads, c.document != 0};
  const auto run = [&] {
    if (backward)
      attention_backward(*device, shape, qkv, documents, out, sums, dout, dqkv);
    else
      attention_forward(*device, shape, qkv, documents, out, sums);
  };
  attention_forward(*device, shape, qkv, documents, out, sums);
  run();
  device->queue().synchronize();
  for (auto _ : state) {
    run();
    device->queue().synchronize();
  }
  const double operations = (backward ? 5 : 2) * 2 * pairs(c, begins) * static_cast<double>(c.heads.queries * c.heads.size);
  state.counters["flops"] = benchmark::Counter(operations, benchmark::Counter::kIsIterationInvariantRate);
  if (device->kind() == DeviceKind::cuda) state.SetLabel(describe_attention(shape, c.dtype));
}

void add(const std::string& name, const Case& c) {
  for (const bool backward : {false, true})
    benchmark::RegisterBenchmark((name + (backward ? ", backward" : ", forward")).c_str(), attention, c, backward)
        ->Unit(benchmark::kMicrosecond)
        ->UseRealTime();
}

}  // namespace

int main(int argc, char** argv) {
  add("16 x 1024, 12 heads of 64", {16, 1024, {12, 12, 64}});
  add("16 x 1024, 12 heads of 64, one document each", {16, 1024, {12, 12, 64}, 1024});
  add("16 x 1024, 12 heads of 64, documents of 256", {16, 1024, {12, 12, 64}, 256});
  add("16 x 1024, 12 heads of 64, float32", {16, 1024, {12, 12, 64}, 0, Dtype::float32});
  add("16 x 1024, 12 heads of 60, one element at a time", {16, 1024, {12, 12, 60}});
  add("4 x 4096, 16 heads of 128 with 8 keys, float32", {4, 4096, {16, 8, 128}, 0, Dtype::float32});
  add("2 x 8192, 9 heads of 64 with 3 keys", {2, 8192, {9, 3, 64}});
  add("2 x 8192, 9 heads of 64 with 3 keys, one document each", {2, 8192, {9, 3, 64}, 8192});
  add("2 x 8192, 9 heads of 64 with 3 keys, window of 1024", {2, 8192, {9, 3, 64, 1024}});
  add("4 x 4096, 16 heads of 128 with 8 keys, one document each", {4, 4096, {16, 8, 128}, 4096});
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
