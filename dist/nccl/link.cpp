#include "dist/nccl/link.h"

#include <array>
#include <cstring>
#include <map>
#include <thread>

#include "core/base/error.h"
#include "core/device/cuda/error.h"
#include "dist/comm/agreement.h"

namespace muonp::dist {

namespace {

const char* name_of(ncclResult_t result) {
  constexpr std::array<const char*, 8> kNames = {"ncclSuccess",       "ncclUnhandledCudaError", "ncclSystemError",
                                                 "ncclInternalError", "ncclInvalidArgument",    "ncclInvalidUsage",
                                                 "ncclRemoteError",   "ncclInProgress"};
  const auto i = static_cast<std::size_t>(result);
  return i < kNames.size() ? kNames[i] : "an unknown result";
}

std::string text_of(ncclResult_t result, ncclComm_t communicator) {
  std::string text = fmt::format("{} ({})", ncclGetErrorString(result), name_of(result));
  const char* last = ncclGetLastError(communicator);
  if (last != nullptr && *last != '\0') text += fmt::format(": {}", last);
  return text;
}

// "ranks 0 and 2 share the GPU node7/0000:3b:00.0", or empty.
std::string shared_gpu(const std::vector<std::string>& identities) {
  std::map<std::string, std::size_t> first;
  for (std::size_t rank = 0; rank < identities.size(); ++rank) {
    const auto [at, is_new] = first.emplace(identities[rank], rank);
    if (!is_new) return fmt::format("ranks {} and {} share the GPU {}", at->second, rank, identities[rank]);
  }
  return "";
}

ncclUniqueId agree_on_id(Communicator& host) {
  ncclUniqueId id{};
  run_on_all(host, [&] {
    if (host.rank() == 0) check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
  });
  const std::string bytes(id.internal, sizeof id.internal);
  const std::string from_root = host.all_gather_bytes(host.rank() == 0 ? bytes : std::string())[0];
  std::memcpy(id.internal, from_root.data(), sizeof id.internal);
  return id;
}

}  // namespace

void check_nccl(ncclResult_t result, const char* call, ncclComm_t communicator) {
  if (result == ncclSuccess || result == ncclInProgress) return;
  const std::string text = fmt::format("{} failed on {}: {}", call, core::cuda::context(), text_of(result, communicator));
  if (result == ncclRemoteError) throw RemoteError(text);
  throw core::Error(text);
}

NcclLink::NcclLink(Communicator& host, const std::string& gpu, double timeout_seconds) : timeout_(timeout_seconds) {
  const ncclUniqueId id = agree_on_id(host);
  // The other half is for a rank that failed early and waits below.
  const auto half = std::chrono::duration_cast<Clock::duration>(timeout_ / 2);
  std::exception_ptr failure;
  try {
    initialize(id, host.rank(), host.size(), Clock::now() + half);
  } catch (...) {
    failure = std::current_exception();
  }
  if (all_agree(host, failure == nullptr)) return;
  abort();
  const std::string shared = shared_gpu(host.all_gather_bytes(gpu));
  if (!shared.empty())
    throw AgreedError(
        fmt::format("NCCL: {}; start at most as many ranks on a host as it has GPUs, and give each "
                    "rank one of its own; ranks can share a GPU with parallel.transport: mpi",
                    shared));
  rethrow_on_all(host, failure);
}

void NcclLink::initialize(const ncclUniqueId& id, int rank, int size, Clock::time_point deadline) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclResult_t result;
  {
    const std::lock_guard lock(mutex_);
    result = ncclCommInitRankConfig(&communicator_, size, id, rank, &config);
  }
  result = settle(result, deadline);
  if (result == ncclInProgress)
    core::fail("NCCL: {} waited {} s for other ranks to initialise", core::cuda::context(), timeout_.count() / 2);
  const std::lock_guard lock(mutex_);
  check_nccl(result, "ncclCommInitRankConfig", communicator_);
}

// The result when NCCL has gone on, or ncclInProgress at the deadline.
ncclResult_t NcclLink::settle(ncclResult_t result, Clock::time_point deadline) {
  for (int i = 0; result == ncclInProgress && Clock::now() < deadline; ++i) {
    if (i < 100)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    const std::lock_guard lock(mutex_);
    if (communicator_ == nullptr) core::fail("NCCL was aborted on {}", core::cuda::context());
    check_nccl(ncclCommGetAsyncError(communicator_, &result), "ncclCommGetAsyncError", communicator_);
  }
  return result;
}

void NcclLink::issue(const char* name, const std::function<ncclResult_t(ncclComm_t)>& call) {
  ncclResult_t result;
  {
    const std::lock_guard lock(mutex_);
    if (communicator_ == nullptr) core::fail("{} after NCCL was aborted on {}", name, core::cuda::context());
    result = call(communicator_);
  }
  result = settle(result, Clock::time_point::max());  // an abort ends it
  const std::lock_guard lock(mutex_);
  check_nccl(result, name, communicator_);
}

std::string NcclLink::asynchronous_error() {
  const std::lock_guard lock(mutex_);
  if (communicator_ == nullptr) return "";
  ncclResult_t result = ncclSuccess;
  const ncclResult_t asked = ncclCommGetAsyncError(communicator_, &result);
  if (asked != ncclSuccess) result = asked;
  return result == ncclSuccess || result == ncclInProgress ? "" : text_of(result, communicator_);
}

void NcclLink::close() {
  ncclResult_t result;
  {
    const std::lock_guard lock(mutex_);
    if (communicator_ == nullptr) return;
    result = ncclCommFinalize(communicator_);
  }
  result = settle(result, Clock::now() + std::chrono::duration_cast<Clock::duration>(timeout_));
  if (result != ncclSuccess) return abort();
  const std::lock_guard lock(mutex_);
  check_nccl(ncclCommDestroy(std::exchange(communicator_, nullptr)), "ncclCommDestroy");
}

void NcclLink::abort() noexcept {
  const std::lock_guard lock(mutex_);
  if (communicator_ != nullptr) static_cast<void>(ncclCommAbort(std::exchange(communicator_, nullptr)));
}

}  // namespace muonp::dist
