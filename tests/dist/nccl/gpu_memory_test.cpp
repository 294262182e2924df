// Memory of a GPU of the stand-in: overruns are seen, shared memory is not overtaken, and indices past 2^31 are right.
#include "core/device/blas.h"
#include "core/device/for_each.h"
#include "core/device/symmetric.h"
#include "tests/dist/expect_error.h"
#include "tests/dist/nccl/gpu_ranks.h"

namespace muonp::test {
namespace {

using core::Category;
using core::Dtype;
using core::MatrixView;
using core::Op;
using core::Tensor;
using dist::Communicator;
using dist::Span;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

struct WriteOne {
  float* at;
  MUONP_HD void operator()(std::int64_t) const { *at = 1; }
};

class GpuMemory : public GpuRanks {
 protected:
  // One GPU with more memory than this machine has: what is not written takes none.
  static std::unique_ptr<core::Device> sparse_device() {
    cuda_host::Settings settings;
    settings.memory = std::size_t{128} << 30;
    cuda_host::configure(settings);
    return core::make_cuda_device(0, "the test");
  }
};

// The cache's blocks are longer than the tensors in them: without this the write below lands in its block of 64 bytes.
TEST_F(GpuMemory, WithoutItsCacheAWriteOneElementPastATensorIsReported) {
  const NoMemoryCache exact_blocks;
  const auto device = core::make_cuda_device(0, "the test");
  const std::size_t blocks = cuda_host::live_allocations();
  {
    const Tensor t = Tensor::zeros(*device, {5}, Dtype::float32, Category::weights);
    core::for_each(device->queue(), 1, WriteOne{t.data<float>() + 5});
    device->queue().synchronize();
    EXPECT_THAT(cuda_host::take_reports(), ElementsAre(HasSubstr("write 0 bytes past the end of allocation")));
    const Tensor none = Tensor::empty(*device, {0}, Dtype::float32, Category::other);
    EXPECT_EQ(cuda_host::live_allocations(), blocks + 2);
    EXPECT_EQ(device->allocator()->use().of(Category::weights), 20);
  }
  EXPECT_EQ(cuda_host::live_allocations(), blocks);  // given back at once
  EXPECT_EQ(device->allocator()->use().of(Category::weights), 0);
  EXPECT_EQ(device->allocator()->use().peak_of(Category::weights), 20);
}

TEST_F(GpuMemory, TheSwitchOfTheCacheIsZeroOrOne) {
  const NoMemoryCache restored;
  setenv("MUONP_NO_MEMORY_CACHE", "yes", 1);
  expect_error<core::Error>([] { core::make_cuda_device(0, "the test"); },
                            HasSubstr("MUONP_NO_MEMORY_CACHE=yes: must be 0 or 1"));
}

struct RepeatedReductions {
  const float* x;
  float* out;  // four of each row

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const float* p = x + row.index * row.cols;
    float* to = out + 4 * row.index;
    to[0] = row.sum([=](std::int64_t c) { return p[c]; });
    to[1] = row.sum([=](std::int64_t c) { return -2 * p[c]; });  // through the same shared memory
    to[2] = row.max([=](std::int64_t c) { return p[c]; });
    to[3] = row.max([=](std::int64_t c) { return -2 * p[c]; });
  }
};

// A block's reduction must not write where slower warps still read the previous one.
TEST_F(GpuMemory, ReductionsOfABlockFollowEachOtherInEveryOrderOfThreads) {
  constexpr std::int64_t rows = 3, cols = 1500;
  std::vector<float> x(rows * cols), right;
  for (std::int64_t r = 0; r < rows; ++r) {
    float sum = 0, most = -1e30f, least = 1e30f;
    for (std::int64_t c = 0; c < cols; ++c) {
      const float value = static_cast<float>((r * 31 + c * 7) % 1009 - 400);
      x[static_cast<std::size_t>(r * cols + c)] = value;
      sum += value;
      most = std::max(most, value);
      least = std::min(least, value);
    }
    right.insert(right.end(), {sum, -2 * sum, most, -2 * least});
  }
  for (const auto mode : {cuda_host::Mode::kInline, cuda_host::Mode::kAsync})
    for (const std::uint64_t seed : {1, 2, 3}) {
      start(mode, seed);
      const auto device = core::make_cuda_device(0, "the test");
      const Tensor in = Tensor::empty(*device, {rows, cols}, Dtype::float32, Category::other);
      const Tensor out = Tensor::empty(*device, {4 * rows}, Dtype::float32, Category::other);
      device->queue().write(in.raw(), x.data(), in.bytes());
      core::for_each_row(device->queue(), rows, cols, RepeatedReductions{in.data<float>(), out.data<float>()});
      std::vector<float> values(4 * rows);
      device->queue().read(values.data(), out.raw(), out.bytes());
      EXPECT_EQ(values, right) << "seed " << seed;
    }
}

struct LastOnes {
  std::int64_t from;
  float* out;
  MUONP_HD void operator()(std::int64_t i) const {
    if (i >= from) out[i - from] += 1;
  }
};

TEST_F(GpuMemory, Pitfall14_ElementwiseKernelsPast2To31) {
  const auto device = core::make_cuda_device(0, "the test");
  constexpr std::int64_t kCount = (std::int64_t{1} << 31) + 1000, kLast = 2000;
  const Tensor out = Tensor::zeros(*device, {kLast}, Dtype::float32, Category::other);
  core::for_each(device->queue(), kCount, LastOnes{kCount - kLast, out.data<float>()});
  std::vector<float> values(kLast);
  device->queue().read(values.data(), out.raw(), out.bytes());
  EXPECT_THAT(values, Each(1.0f));
}

// A matrix whose rows lie `stride` elements apart, with small whole numbers.
struct Spread {
  Spread(core::Device& on, std::int64_t n, std::int64_t stride, bool symmetric, Dtype dtype = Dtype::float32)
      : device(on),
        memory(Tensor::empty(on, {(n - 1) * stride + n}, dtype, Category::other)),
        view(memory.raw(), n, n, stride, dtype) {
    std::vector<float> row(static_cast<std::size_t>(n));
    for (std::int64_t r = 0; r < n; ++r) {
      for (std::int64_t c = 0; c < n; ++c)
        row[static_cast<std::size_t>(c)] = static_cast<float>(symmetric ? (r * c + r + c) % 7 - 3 : (3 * r + 5 * c) % 7 - 3);
      device.queue().write(view.block(r, 0, 1, n).data, row.data(), n * 4);
    }
  }
  std::vector<float> read() const {
    std::vector<float> values(static_cast<std::size_t>(view.rows * view.cols));
    for (std::int64_t r = 0; r < view.rows; ++r)
      device.queue().read(&values[static_cast<std::size_t>(r * view.cols)], view.block(r, 0, 1, view.cols).data,
                          view.cols * 4);
    return values;
  }
  core::Device& device;
  Tensor memory;
  MatrixView view;
};

// Passes over symmetric matrices of several tiles, row 16 of which begins past 2^31 elements.
TEST_F(GpuMemory, Pitfall14_SymmetricMatricesPast2To31) {
  const auto device = sparse_device();
  constexpr std::int64_t n = 40;
  const auto run = [&](std::int64_t stride) {
    std::vector<std::vector<float>> results;
    const Spread a(*device, n, stride, true), b(*device, n, stride, false);
    const Spread c(*device, n, stride, false), out(*device, n, stride, false);
    core::Queue& queue = device->queue();
    const core::SymmetricForm form{.out = out.view, .product = 2, .identity = 3, .first = {a.view, 5}};
    core::gram(queue, Op::none, 1, b.view, c.view, {&form, 1});
    results.push_back(out.read());
    core::symmetrized_product(queue, 1, a.view, a.view, c.view);
    results.push_back(c.read());
    const auto moments = core::symmetric_moments(queue, a.view, out.view);
    results.emplace_back(moments.begin(), moments.end());
    return results;
  };
  const auto near = run(n), far = run((std::int64_t{1} << 27) + 3);
  EXPECT_EQ(near, far);
  EXPECT_NE(near[0][0], 0);
}

TEST_F(GpuMemory, Pitfall14_BatchesOfProductsPast2To31) {
  const auto device = sparse_device();
  core::Queue& queue = device->queue();
  constexpr std::int64_t kApart = (std::int64_t{1} << 31) + 48;
  const Tensor memory = Tensor::empty(*device, {2 * kApart + 4}, Dtype::float32, Category::other);
  const core::StridedBatch batch{{memory.raw(), 2, 2, 2}, kApart};
  for (std::int64_t i = 0; i < 3; ++i) {
    const float values[4] = {1, 2, 3, static_cast<float>(i)};
    queue.write(memory.flat(i * kApart, 4).raw(), values, sizeof values);
  }
  const Tensor one = Tensor::empty(*device, {4}, Dtype::float32, Category::other);
  const Tensor out = Tensor::empty(*device, {12}, Dtype::float32, Category::other);
  const float identity[4] = {1, 0, 0, 1};
  queue.write(one.raw(), identity, sizeof identity);
  core::gemm_batched(queue, 3, Op::none, Op::none, 1, batch, {{one.raw(), 2, 2, 2}, 0}, 0, {{out.raw(), 2, 2, 2}, 4});
  std::vector<float> values(12);
  queue.read(values.data(), out.raw(), out.bytes());
  EXPECT_THAT(values, ElementsAre(1, 2, 3, 0, 1, 2, 3, 1, 1, 2, 3, 2));
}

// Counts that wrapped would fit the buffer and pass; whole, they are refused with their bytes.
TEST_F(GpuMemory, Pitfall14_CountsOfOperationsPast2To32) {
  constexpr std::int64_t kCount = (std::int64_t{1} << 32) + 8;
  const auto refused = [](int ranks, const std::function<void(Communicator&, Span)>& operation) {
    run_on_gpus(ranks, [&](Communicator& nccl, core::Device& device) {
      const Tensor small = Tensor::zeros(device, {8}, Dtype::float32, Category::other);
      expect_error<core::Error>([&] { operation(nccl, {small.raw(), kCount, Dtype::float32}); }, testing::_);
    });
    const std::vector<std::string> reports = cuda_host::take_reports();
    EXPECT_THAT(reports, testing::Not(testing::IsEmpty()));
    EXPECT_THAT(reports, Each(HasSubstr(std::to_string(4 * kCount) + " bytes from byte 0")));
  };
  refused(1, [](Communicator& nccl, Span data) { nccl.all_reduce(data, dist::Reduce::sum); });
  refused(1, [](Communicator& nccl, Span data) { nccl.reduce_scatter(data); });
  refused(1, [](Communicator& nccl, Span data) { nccl.all_gather(data); });
  refused(1, [](Communicator& nccl, Span data) { nccl.broadcast(data, 0); });
  refused(2, [](Communicator& nccl, Span data) {
    const dist::Transfer other{1 - nccl.rank(), data};
    nccl.rank() == 0 ? nccl.exchange({&other, 1}, {}) : nccl.exchange({}, {&other, 1});
  });
}

}  // namespace
}  // namespace muonp::test
