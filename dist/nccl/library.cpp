// NCCL's functions by their names in nccl.h; each is looked up in the library when it is first called.
#include "dist/nccl/library.h"

#include <dlfcn.h>
#include <nccl.h>

#include "core/base/error.h"

namespace muonp::dist {

namespace {

constexpr const char* kFile = "libnccl.so.2";

struct Loaded {
  void* file = dlopen(kFile, RTLD_NOW | RTLD_LOCAL);
  std::string refusal = file == nullptr ? fmt::format("NCCL: {} cannot be loaded: {}", kFile, dlerror()) : "";
};

const Loaded& loaded() {
  static const Loaded library;  // for as long as the process: its threads may still run when others end
  return library;
}

template <class Function>
Function look_up(const char* name) {
  if (!nccl_refusal().empty()) core::fail("{}", nccl_refusal());
  void* function = dlsym(loaded().file, name);
  if (function == nullptr) core::fail("NCCL: {} has no {}", kFile, name);
  return reinterpret_cast<Function>(function);
}

}  // namespace

std::string nccl_refusal() { return loaded().refusal; }

}  // namespace muonp::dist

#define MUONP_FORWARD(result, name, parameters, arguments)                     \
  result name parameters {                                                     \
    static const auto function = muonp::dist::look_up<decltype(&name)>(#name); \
    return function arguments;                                                 \
  }

MUONP_FORWARD(ncclResult_t, ncclGetVersion, (int* version), (version))
MUONP_FORWARD(ncclResult_t, ncclGetUniqueId, (ncclUniqueId * id), (id))
MUONP_FORWARD(const char*, ncclGetErrorString, (ncclResult_t result), (result))
MUONP_FORWARD(const char*, ncclGetLastError, (ncclComm_t comm), (comm))
MUONP_FORWARD(ncclResult_t, ncclCommInitRankConfig,
              (ncclComm_t * comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config),
              (comm, ranks, id, rank, config))
MUONP_FORWARD(ncclResult_t, ncclCommGetAsyncError, (ncclComm_t comm, ncclResult_t* error), (comm, error))
MUONP_FORWARD(ncclResult_t, ncclCommFinalize, (ncclComm_t comm), (comm))
MUONP_FORWARD(ncclResult_t, ncclCommDestroy, (ncclComm_t comm), (comm))
MUONP_FORWARD(ncclResult_t, ncclCommAbort, (ncclComm_t comm), (comm))
MUONP_FORWARD(ncclResult_t, ncclGroupStart, (), ())
MUONP_FORWARD(ncclResult_t, ncclGroupEnd, (), ())
MUONP_FORWARD(ncclResult_t, ncclBroadcast,
              (const void* from, void* to, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
               cudaStream_t stream),
              (from, to, count, type, root, comm, stream))
MUONP_FORWARD(ncclResult_t, ncclAllReduce,
              (const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
               cudaStream_t stream),
              (from, to, count, type, op, comm, stream))
MUONP_FORWARD(ncclResult_t, ncclReduceScatter,
              (const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
               cudaStream_t stream),
              (from, to, count, type, op, comm, stream))
MUONP_FORWARD(ncclResult_t, ncclAllGather,
              (const void* from, void* to, size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream),
              (from, to, count, type, comm, stream))
MUONP_FORWARD(ncclResult_t, ncclSend,
              (const void* from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream),
              (from, count, type, peer, comm, stream))
MUONP_FORWARD(ncclResult_t, ncclRecv,
              (void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream),
              (to, count, type, peer, comm, stream))
