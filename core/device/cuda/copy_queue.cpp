#include "core/device/copy_queue.h"

#include "core/device/cuda/queue.h"

namespace muonp::core {

namespace {

class CudaCopyQueue final : public CopyQueue {
 public:
  explicit CudaCopyQueue(Device& device) : queue_(cuda::stream_of(device.queue())), stream_(cuda::make_stream()) {
    MUONP_CUDA(cudaGetDevice(&device_));
  }

  std::shared_ptr<const void> moment() override {
    auto event = std::make_shared<cuda::Event>(cuda::make_event());
    MUONP_CUDA(cudaEventRecord(event->get(), queue_));
    return event;
  }
  void start_after(const std::shared_ptr<const void>& moment) override {
    MUONP_CUDA(cudaSetDevice(device_));  // of the calling thread
    MUONP_CUDA(cudaStreamWaitEvent(stream_.get(), static_cast<const cuda::Event*>(moment.get())->get()));
  }
  void read(void* host, const void* from, std::int64_t bytes) override { copy(host, from, bytes, cudaMemcpyDeviceToHost); }
  void write(void* to, const void* host, std::int64_t bytes) override { copy(to, host, bytes, cudaMemcpyHostToDevice); }
  void synchronize() override { MUONP_CUDA(cudaStreamSynchronize(stream_.get())); }

 private:
  void copy(void* to, const void* from, std::int64_t bytes, cudaMemcpyKind kind) {
    if (bytes > 0) MUONP_CUDA(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), kind, stream_.get()));
  }

  int device_ = 0;
  cudaStream_t queue_;
  cuda::Stream stream_;
};

}  // namespace

std::unique_ptr<CopyQueue> make_copy_queue(Device& device) {
  MUONP_ASSERT(device.kind() == DeviceKind::cuda, "copies beside the queue of {}", device.name());
  return std::make_unique<CudaCopyQueue>(device);
}

}  // namespace muonp::core
