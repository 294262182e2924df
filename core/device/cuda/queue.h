// The compute queue of one GPU: a stream, and the cuBLAS handle that works on it.
#pragma once

#include <memory>

#include "core/device/cuda/handle.h"
#include "core/device/device.h"
#include "core/device/tensor.h"

namespace muonp::core::cuda {

class EpilogueProducts;  // core/device/cuda/epilogue_product.h
class FusedAttention;    // core/device/cuda/fused_attention.h

class CudaQueue final : public Queue {
 public:
  explicit CudaQueue(Device& device);
  ~CudaQueue() override;
  // The memory that cuBLAS works in; once, when the device's allocator is there.
  void allocate_workspace();

  DeviceKind kind() const override { return DeviceKind::cuda; }
  Device& device() override { return device_; }
  int threads() const override { return 1; }
  void synchronize() override;
  std::unique_ptr<TimePoint> now() override;
  void copy(void* to, const void* from, std::int64_t bytes) override;
  void fill_zero(void* to, std::int64_t bytes) override;
  void read(void* host, const void* from, std::int64_t bytes) override;
  void write(void* to, const void* host, std::int64_t bytes) override;
  void multiply(const Product& first, std::int64_t count, const std::array<std::int64_t, 3>& batch_strides) override;

  // `count` products like the first one, whose matrices lie where these arrays in the device's memory say, at multiples of
  // 16 bytes.
  void multiply_each(const Product& first, std::int64_t count, const void* const* a, const void* const* b, void* const* c);

  cudaStream_t stream() const { return stream_.get(); }
  int multiprocessors() const { return multiprocessors_; }
  // What cuBLAS works in, for a kernel's partial sums: the stream's order keeps their uses apart.
  void* scratch(std::int64_t bytes) const;
  FusedAttention& fused_attention();  // made when it is first asked for

 private:
  Device& device_;
  int multiprocessors_ = 1;
  Stream stream_;
  Tensor workspace_;  // freed after the handle that uses it
  Blas blas_;
  std::unique_ptr<EpilogueProducts> epilogue_products_;
  std::unique_ptr<FusedAttention> fused_attention_;
};

// The stream of a CUDA device's queue.
inline cudaStream_t stream_of(Queue& queue) { return static_cast<CudaQueue&>(queue).stream(); }
inline void* scratch_of(Queue& queue, std::int64_t bytes) { return static_cast<CudaQueue&>(queue).scratch(bytes); }
inline int multiprocessors_of(Queue& queue) { return static_cast<CudaQueue&>(queue).multiprocessors(); }

}  // namespace muonp::core::cuda
