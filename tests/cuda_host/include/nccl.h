// Host stand-in for the part of NCCL that the back end uses. Signatures, enumerators and error codes are those of 2.28.
// Beyond returning an error, what is undefined, a sure bug or a hang of the real library is reported (cuda_host.h).
//
// Ranks are threads of one process or processes of one host. What they call is compared before data moves. Not
// modelled: several communicators or streams in one group, ncclCommInitRank within a group, products and averages,
// sums of 8- and 64-bit types, several hosts, user-made reductions, splitting, and how the real library cuts, orders
// and rounds its sums: here they are taken in rank order, and rounded to the type of the data after each addition.
#pragma once

#include <climits>
#include <cstddef>

#include "cuda_runtime.h"

#define NCCL_MAJOR 2
#define NCCL_MINOR 28
#define NCCL_PATCH 9
#define NCCL_VERSION_CODE 22809
#define NCCL_VERSION(X, Y, Z) ((X)*10000 + (Y)*100 + (Z))

typedef struct ncclComm* ncclComm_t;

#define NCCL_UNIQUE_ID_BYTES 128
typedef struct {
  char internal[NCCL_UNIQUE_ID_BYTES];
} ncclUniqueId;

typedef enum {
  ncclSuccess = 0,
  ncclUnhandledCudaError = 1,
  ncclSystemError = 2,
  ncclInternalError = 3,
  ncclInvalidArgument = 4,
  ncclInvalidUsage = 5,
  ncclRemoteError = 6,
  ncclInProgress = 7,
  ncclNumResults = 8
} ncclResult_t;

#define NCCL_CONFIG_UNDEF_INT INT_MIN
#define NCCL_CONFIG_UNDEF_PTR NULL

// Of the settings only `blocking` has an effect.
typedef struct ncclConfig_v22800 {
  size_t size;
  unsigned int magic;
  unsigned int version;
  int blocking;
  int cgaClusterSize;
  int minCTAs;
  int maxCTAs;
  const char* netName;
  int splitShare;
  int trafficClass;
  const char* commName;
  int collnetEnable;
  int CTAPolicy;
  int shrinkShare;
  int nvlsCTAs;
  int nChannelsPerNetPeer;
  int nvlinkCentricSched;
} ncclConfig_t;

#define NCCL_CONFIG_INITIALIZER                                                                                            \
  {                                                                                                                        \
    sizeof(ncclConfig_t), 0xcafebeef, NCCL_VERSION_CODE, NCCL_CONFIG_UNDEF_INT, NCCL_CONFIG_UNDEF_INT,                     \
        NCCL_CONFIG_UNDEF_INT, NCCL_CONFIG_UNDEF_INT, NCCL_CONFIG_UNDEF_PTR, NCCL_CONFIG_UNDEF_INT, NCCL_CONFIG_UNDEF_INT, \
        NCCL_CONFIG_UNDEF_PTR, NCCL_CONFIG_UNDEF_INT, NCCL_CONFIG_UNDEF_INT, NCCL_CONFIG_UNDEF_INT, NCCL_CONFIG_UNDEF_INT, \
        NCCL_CONFIG_UNDEF_INT, NCCL_CONFIG_UNDEF_INT                                                                       \
  }

typedef enum { ncclSum = 0, ncclProd = 1, ncclMax = 2, ncclMin = 3, ncclAvg = 4, ncclNumOps = 5 } ncclRedOp_t;

typedef enum {
  ncclInt8 = 0,
  ncclChar = 0,
  ncclUint8 = 1,
  ncclInt32 = 2,
  ncclInt = 2,
  ncclUint32 = 3,
  ncclInt64 = 4,
  ncclUint64 = 5,
  ncclFloat16 = 6,
  ncclHalf = 6,
  ncclFloat32 = 7,
  ncclFloat = 7,
  ncclFloat64 = 8,
  ncclDouble = 8,
  ncclBfloat16 = 9,
  ncclNumTypes = 12
} ncclDataType_t;

extern "C" {

ncclResult_t ncclGetVersion(int* version);
const char* ncclGetErrorString(ncclResult_t result);
const char* ncclGetLastError(ncclComm_t comm);  // null: the last one of any communicator

// A communicator. The id is made once and used for one clique. Refused with ncclInvalidUsage at all ranks: two ranks on
// one device ("Duplicate GPU detected"); with ncclInvalidArgument: a rank or a number of ranks that does not fit.
// Reported: ranks that do not come within the time-out, a rank taken twice.
ncclResult_t ncclGetUniqueId(ncclUniqueId* uniqueId);
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int nranks, ncclUniqueId commId, int rank);
ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int nranks, ncclUniqueId commId, int rank, ncclConfig_t* config);

// With blocking = 0 calls return ncclInProgress and go on beside the caller: nothing is on the stream before
// ncclCommGetAsyncError says other than ncclInProgress. ncclInvalidArgument, and a report: a call before that.
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* asyncError);
ncclResult_t ncclCommCount(const ncclComm_t comm, int* count);
ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank);
ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int* device);

// Finalize waits for this rank's operations and for the other ranks. Reported: Destroy with operations pending that
// Finalize did not wait for, all use afterwards, and use after Abort. Abort ends pending operations, whose results are
// then undefined (NaN here); other ranks get ncclRemoteError from what they wait in and from later calls, as over a
// network (on one host the real library may leave them waiting). A rank that vanishes is seen in the same way.
ncclResult_t ncclCommFinalize(ncclComm_t comm);
ncclResult_t ncclCommDestroy(ncclComm_t comm);
ncclResult_t ncclCommAbort(ncclComm_t comm);

// Operations within a group are issued together, so that sends and receives cannot wait for each other in a circle;
// others in order. Between two ranks the k-th send matches the k-th receive. Reported: a group that is not ended, or
// not begun.
ncclResult_t ncclGroupStart();
ncclResult_t ncclGroupEnd();

// ncclInvalidArgument, most with a report: memory that is not whole on the communicator's device, buffers that overlap
// otherwise than in place, an unknown type, reduction, peer or root, a stream of another device. Stricter than the real
// library: the legacy default stream, another device current than the communicator's. ncclInvalidUsage of the call or of
// ncclCommGetAsyncError, and a report: ranks that call different things, that all wait for each other, or for one that does
// not come within CUDA_HOST_NCCL_TIMEOUT seconds (20).
ncclResult_t ncclAllReduce(const void* sendbuff, void* recvbuff, size_t count, ncclDataType_t datatype, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream);
// In place where recvbuff == sendbuff + rank · recvcount.
ncclResult_t ncclReduceScatter(const void* sendbuff, void* recvbuff, size_t recvcount, ncclDataType_t datatype,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream);
// In place where sendbuff == recvbuff + rank · sendcount.
ncclResult_t ncclAllGather(const void* sendbuff, void* recvbuff, size_t sendcount, ncclDataType_t datatype, ncclComm_t comm,
                           cudaStream_t stream);
ncclResult_t ncclBroadcast(const void* sendbuff, void* recvbuff, size_t count, ncclDataType_t datatype, int root,
                           ncclComm_t comm, cudaStream_t stream);
ncclResult_t ncclSend(const void* sendbuff, size_t count, ncclDataType_t datatype, int peer, ncclComm_t comm,
                      cudaStream_t stream);
ncclResult_t ncclRecv(void* recvbuff, size_t count, ncclDataType_t datatype, int peer, ncclComm_t comm, cudaStream_t stream);

}  // extern "C"
