#include "core/device/cuda/queue.h"

#include <algorithm>

#include "core/device/cuda/blas_types.h"
#include "core/device/cuda/epilogue_product.h"
#include "core/device/cuda/fused_attention.h"
#include "core/device/cuda/moment.h"
#include "core/device/epilogue.h"

namespace muonp::core::cuda {

namespace {

// What NVIDIA advises for Hopper; with a workspace of its own a handle's results are reproducible (cuBLAS documentation,
// "Results reproducibility").
constexpr std::int64_t kWorkspaceBytes = 32 << 20;

std::size_t size(std::int64_t bytes) { return static_cast<std::size_t>(bytes); }

class EventTimePoint final : public TimePoint {
 public:
  explicit EventTimePoint(cudaStream_t stream) { MUONP_CUDA(cudaEventRecord(event_.get(), stream)); }
  double seconds_since(const TimePoint& earlier) const override {
    float milliseconds = 0;
    MUONP_CUDA(cudaEventSynchronize(event_.get()));
    MUONP_CUDA(cudaEventElapsedTime(&milliseconds, static_cast<const EventTimePoint&>(earlier).event_.get(), event_.get()));
    return 1e-3 * milliseconds;
  }

 private:
  Event event_ = make_event(cudaEventDefault);
};

int narrow(std::int64_t x) {
  MUONP_ASSERT(x <= 0x7fffffff, "a dimension of {}", x);
  return static_cast<int>(x);
}
int leading(const MatrixView& view) { return std::max(1, narrow(view.stride)); }  // as cuBLAS wants it

// A product's sizes and types as cuBLAS takes them.
struct Sizes {
  int m, n, k, lda, ldb, ldc;
  cudaDataType_t operands, result;
  cublasComputeType_t compute;

  explicit Sizes(const Product& p)
      : m(narrow(p.m)),
        n(narrow(p.n)),
        k(narrow(p.k)),
        lda(leading(p.a)),
        ldb(leading(p.b)),
        ldc(leading(p.c)),
        operands(type_of(p.a.dtype)),
        result(type_of(p.c.dtype)),
        compute(compute_type_of(p.a.dtype)) {}
};

}  // namespace

std::unique_ptr<TimePoint> moment_of(cudaStream_t stream) { return std::make_unique<EventTimePoint>(stream); }

CudaQueue::CudaQueue(Device& device) : device_(device), stream_(make_stream()), blas_(make_blas()) {
  int current = 0;
  MUONP_CUDA(cudaGetDevice(&current));
  MUONP_CUDA(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, current));
  MUONP_CUDA(cublasSetStream(blas_.get(), stream_.get()));
  MUONP_CUDA(cublasSetAtomicsMode(blas_.get(), CUBLAS_ATOMICS_NOT_ALLOWED));
  // Where a product is split along k, its parts are added in float32 and not in the result's 16 bits.
  MUONP_CUDA(cublasSetMathMode(
      blas_.get(), static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)));
}

CudaQueue::~CudaQueue() = default;

FusedAttention& CudaQueue::fused_attention() {
  if (!fused_attention_) fused_attention_ = make_fused_attention(device_);
  return *fused_attention_;
}

void CudaQueue::allocate_workspace() {
  workspace_ = Tensor::empty(device_, {kWorkspaceBytes / 4}, Dtype::int32, Category::other);
  MUONP_CUDA(cublasSetWorkspace(blas_.get(), workspace_.raw(), size(kWorkspaceBytes)));
}

void* CudaQueue::scratch(std::int64_t bytes) const {
  MUONP_ASSERT(bytes <= kWorkspaceBytes, "{} bytes of scratch memory, of {}", bytes, kWorkspaceBytes);
  return workspace_.raw();
}

void CudaQueue::synchronize() { MUONP_CUDA(cudaStreamSynchronize(stream_.get())); }

std::unique_ptr<TimePoint> CudaQueue::now() { return moment_of(stream_.get()); }

void CudaQueue::copy(void* to, const void* from, std::int64_t bytes) {
  if (bytes > 0) MUONP_CUDA(cudaMemcpyAsync(to, from, size(bytes), cudaMemcpyDeviceToDevice, stream_.get()));
}

void CudaQueue::fill_zero(void* to, std::int64_t bytes) {
  if (bytes > 0) MUONP_CUDA(cudaMemsetAsync(to, 0, size(bytes), stream_.get()));
}

void CudaQueue::read(void* host, const void* from, std::int64_t bytes) {
  if (bytes > 0) MUONP_CUDA(cudaMemcpyAsync(host, from, size(bytes), cudaMemcpyDeviceToHost, stream_.get()));
  synchronize();
}

// Pageable memory is staged before the call returns (CUDA documentation, "API synchronization behavior"); pinned memory
// is read later, so the queue is waited for.
void CudaQueue::write(void* to, const void* host, std::int64_t bytes) {
  if (bytes == 0) return;
  MUONP_CUDA(cudaMemcpyAsync(to, host, size(bytes), cudaMemcpyHostToDevice, stream_.get()));
  cudaPointerAttributes attributes{};
  MUONP_CUDA(cudaPointerGetAttributes(&attributes, host));
  if (attributes.type == cudaMemoryTypeHost) synchronize();
}

void CudaQueue::multiply(const Product& p, std::int64_t count, const std::array<std::int64_t, 3>& batch_strides) {
  if (p.epilogue.is_any()) {
    MUONP_ASSERT(count == 1, "a batch of {} products with an epilogue", count);
    if (!epilogue_products_) epilogue_products_ = std::make_unique<EpilogueProducts>();
    if (epilogue_products_->multiply(p, stream_.get(), workspace_.raw(), size(kWorkspaceBytes))) return;
    return multiply_in_parts(*this, p);
  }
  const Sizes s(p);
  const cublasOperation_t a = operation_of(p.op_a), b = operation_of(p.op_b);
  if (count == 1)
    return MUONP_CUDA(cublasGemmEx(blas_.get(), b, a, s.n, s.m, s.k, &p.alpha, p.b.data, s.operands, s.ldb, p.a.data,
                                   s.operands, s.lda, &p.beta, p.c.data, s.result, s.ldc, s.compute, CUBLAS_GEMM_DEFAULT));
  MUONP_CUDA(cublasGemmStridedBatchedEx(blas_.get(), b, a, s.n, s.m, s.k, &p.alpha, p.b.data, s.operands, s.ldb,
                                        batch_strides[1], p.a.data, s.operands, s.lda, batch_strides[0], &p.beta, p.c.data,
                                        s.result, s.ldc, batch_strides[2], narrow(count), s.compute, CUBLAS_GEMM_DEFAULT));
}

void CudaQueue::multiply_each(const Product& p, std::int64_t count, const void* const* a, const void* const* b,
                              void* const* c) {
  const Sizes s(p);
  MUONP_CUDA(cublasGemmBatchedEx(blas_.get(), operation_of(p.op_b), operation_of(p.op_a), s.n, s.m, s.k, &p.alpha, b,
                                 s.operands, s.ldb, a, s.operands, s.lda, &p.beta, c, s.result, s.ldc, narrow(count),
                                 s.compute, CUBLAS_GEMM_DEFAULT));
}

}  // namespace muonp::core::cuda
