// U Sᵖ Vᵀ from a singular value decomposition: LAPACK's divide and conquer (sgesdd) in float32. Any p.
// Singular values that rounding cannot tell from zero, below max(rows, cols)·2⁻²⁴·σ_max, count as zero and
// stay zero.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/device/for_each.h"
#include "core/device/lapack.h"
#include "optim/spectral/elementwise.h"
#include "optim/spectral/methods.h"
#include "optim/spectral/per_matrix.h"

namespace muonp::optim::spectral {
namespace {

using core::Category;
using core::Dtype;
using core::MatrixView;
using core::Tensor;

int lapack_size(std::int64_t value) {
  if (value > std::numeric_limits<int>::max())
    core::fail("method svd: LAPACK's sizes are 32 bits, this matrix needs {}; the other methods have no such limit", value);
  return static_cast<int>(value);
}

// sgesdd on the column-major reading of row-major G, which is Gᵀ = V S Uᵀ: LAPACK's left vectors are V.
struct Decomposition {
  int rows, cols, rank;  // of Gᵀ
  std::int64_t work = 0;

  Decomposition(std::int64_t g_rows, std::int64_t g_cols)
      : rows(lapack_size(g_cols)), cols(lapack_size(g_rows)), rank(std::min(rows, cols)) {
    float size = 0;
    call(nullptr, nullptr, nullptr, nullptr, &size, -1, nullptr);
    // The query answers in float32, which cannot hold every size; one more unit in the last place covers it.
    work = static_cast<std::int64_t>(std::nextafter(size, INFINITY)) + 1;
  }

  int call(float* a, float* s, float* u, float* vt, float* work_area, std::int64_t work_size, std::int32_t* integers) const {
    return core::lapack::sgesdd(rows, cols, a, s, u, vt, work_area, lapack_size(work_size), integers);
  }

  std::int64_t bytes() const {
    const std::int64_t r = rows, c = cols, k = rank;
    return (r * c + k + r * k + k * c + work) * 4 + 8 * k * static_cast<std::int64_t>(sizeof(std::int32_t));
  }
};

class Svd final : public PerMatrix {
 public:
  using PerMatrix::PerMatrix;

  // Golub and Van Loan's count for the thin decomposition with both sets of vectors, and the product that
  // follows.
  double flops(std::int64_t rows, std::int64_t cols) const override {
    const double n = static_cast<double>(std::min(rows, cols)), k = static_cast<double>(std::max(rows, cols));
    return 6 * k * n * n + 20 * n * n * n + 2 * k * n * n;
  }
  std::int64_t workspace_bytes(std::int64_t rows, std::int64_t cols) const override {
    return rows == 0 || cols == 0 ? 0 : Decomposition(rows, cols).bytes();
  }

 protected:
  Outcome one(core::Device& device, const Input& input, const MatrixView& z) const override {
    core::Queue& queue = device.queue();
    if (queue.kind() != core::DeviceKind::cpu) return on_host(queue, input, z);
    const Decomposition d(input.g.rows, input.g.cols);
    const std::int64_t m = input.g.rows, n = input.g.cols, k = d.rank;
    const auto floats = [&](core::Shape shape) {
      return Tensor::empty(device, std::move(shape), Dtype::float32, Category::exchange);
    };
    const Tensor g = floats({m, n}), s = floats({k}), vt = floats({k, n}), u = floats({m, k}), work = floats({d.work});
    const Tensor integers = Tensor::empty(device, {8 * k}, Dtype::int32, Category::exchange);
    copy_scaled(queue, input.g, input.factor, MatrixView(g));
    const int info = d.call(g.data<float>(), s.data<float>(), vt.data<float>(), u.data<float>(), work.data<float>(), d.work,
                            integers.data<std::int32_t>());
    if (info != 0) core::fail("sgesdd did not converge (info {})", info);
    const float largest = s.data<float>()[0];
    raise_rows(queue, s, largest, static_cast<double>(std::max(m, n)) * 0x1p-24 * largest, vt);
    core::gemm(queue, core::Op::none, core::Op::none, static_cast<float>(gain(input, largest)), MatrixView(u),
               MatrixView(vt), 0, z);
    Outcome outcome;
    outcome.scale = largest;
    outcome.predicted_error = 0;
    outcome.flops = flops(m, n);
    return outcome;
  }

 private:
  // LAPACK reads host memory.
  Outcome on_host(core::Queue& queue, const Input& input, const MatrixView& z) const {
    const std::unique_ptr<core::Device> host = core::make_cpu_device(0);
    const core::Shape shape = {input.g.rows, input.g.cols};
    const Tensor g = Tensor::empty(*host, shape, Dtype::float32, Category::exchange);
    const Tensor result = Tensor::empty(*host, shape, Dtype::float32, Category::exchange);
    MUONP_ASSERT(input.g.stride == input.g.cols && z.stride == z.cols, "matrices with padded rows");
    queue.read(g.raw(), input.g.data, g.bytes());
    const Outcome outcome = one(*host, {MatrixView(g), input.factor, input.norm}, MatrixView(result));
    queue.write(z.data, result.raw(), result.bytes());
    return outcome;
  }

  // Row i of Vᵀ times (σ_i/largest)ᵖ, or 0 where σ_i is below the threshold.
  void raise_rows(core::Queue& queue, const Tensor& s, float largest, double threshold, const Tensor& vt) const {
    const double p = options().p.value();
    const float* sigma = s.data<float>();
    float* rows = vt.data<float>();
    const std::int64_t cols = vt.dim(-1);
    core::for_each_host_row(queue, vt.dim(0), cols, [=](const core::Row& row) {
      const double value = sigma[row.index];
      const float factor = value > threshold ? static_cast<float>(std::pow(value / largest, p)) : 0.0f;
      float* r = rows + row.index * cols;
      row.each([=](std::int64_t j) { r[j] *= factor; });
    });
  }
};

}  // namespace

Method make_svd(const SpectralOptions& options) { return std::make_unique<Svd>(options); }

}  // namespace muonp::optim::spectral
