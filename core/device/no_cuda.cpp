// A build without the CUDA Toolkit says so. What asks for a GPU's work cannot be reached here, since no such device is made.
#include "core/base/error.h"
#include "core/device/copy_queue.h"
#include "core/device/cuda/attention.h"
#include "core/device/cuda/ranges.h"
#include "core/device/cuda/symmetric.h"
#include "core/device/device.h"

namespace muonp::core {

bool cuda_is_built() { return false; }

std::string cuda_refusal() {
  return "this build has no CUDA support (configure with -DMUONP_CUDA=ON where the CUDA Toolkit is)";
}

int cuda_device_count() { return 0; }

std::unique_ptr<Device> make_cuda_device(int, const std::string&) { fail("device: cuda: {}", cuda_refusal()); }

std::unique_ptr<CopyQueue> make_copy_queue(Device&) { throw InternalError("no CUDA back end in this build"); }

}  // namespace muonp::core

namespace muonp::core::cuda {
namespace {

[[noreturn]] void not_built() { throw InternalError("no CUDA back end in this build"); }

}  // namespace

void attention_forward(Device&, const AttentionShape&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                       const Tensor&) {
  not_built();
}

void attention_backward(Device&, const AttentionShape&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                        const Tensor&, const Tensor&) {
  not_built();
}

void attention_with_cache(Device&, const AttentionHeads&, const Tensor&, const Tensor&, const Tensor&,
                          std::span<const std::int64_t>, const Tensor&) {
  not_built();
}

std::string fusion_refusal(const AttentionShape&, Dtype) { return "this build has no CUDA support"; }

std::string fusion_library() { not_built(); }

void begin_range(const char*) {}
void end_range() {}

void multiply_lower(Queue&, std::int64_t, float, Op, const StridedBatch&, Op, const StridedBatch&, const StridedBatch&,
                    std::int64_t) {
  not_built();
}

void write_forms(Queue&, std::int64_t, const StridedBatch&, std::span<const SymmetricForm>) { not_built(); }

void average_with_transpose(Queue&, std::int64_t, const StridedBatch&) { not_built(); }

std::array<double, 4> symmetric_moments(Queue&, const MatrixView&, const MatrixView&) { not_built(); }

}  // namespace muonp::core::cuda
