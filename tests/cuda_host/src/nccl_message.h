// What ranks and their hub (nccl_hub.h) send each other, over Unix stream sockets of one host.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "nccl.h"

namespace cuda_host::nccl {

enum class Call : int32_t { kAllReduce, kReduceScatter, kAllGather, kBroadcast, kSend, kRecv };
const char* name_of(Call call);
const char* name_of(ncclDataType_t type);
const char* name_of(ncclRedOp_t reduction);
size_t size_of(ncclDataType_t type);  // 0: not a type
constexpr bool is_collective(Call call) { return call != Call::kSend && call != Call::kRecv; }

// One call as ranks compare it. `count` is the argument of that name.
struct Operation {
  Call call;
  ncclDataType_t type;
  ncclRedOp_t reduction;
  int32_t peer;  // or root
  uint64_t count;
  uint64_t sequence;  // of this rank's calls on the communicator, from 0

  uint64_t bytes() const { return count * size_of(type); }
  uint64_t input_bytes(int rank, int ranks) const;
  uint64_t output_bytes(int ranks) const;
};
std::string describe(const Operation& operation);  // "ncclAllReduce of 5 ncclFloat32, ncclSum (operation 3)"

struct Hello {
  int32_t ranks, rank, node, device;
};

enum class Kind : uint32_t { kHello, kGroup, kFinalize, kReply };

// A group's body: the number of operations, they, then their inputs one after the other. A reply's: result, text, the
// outputs of the group.
struct Message {
  Kind kind;
  std::vector<char> body;
};

class Writer {
 public:
  template <class T>
  void put(const T& value) {
    put_bytes(&value, sizeof value);
  }
  void put_bytes(const void* bytes, size_t count) {
    const size_t at = body.size();
    body.resize(at + count);
    if (count > 0) std::memcpy(body.data() + at, bytes, count);
  }
  std::vector<char> body;
};

class Reader {
 public:
  explicit Reader(const std::vector<char>& body) : at_(body.data()), end_(body.data() + body.size()) {}
  template <class T>
  T get() {
    T value{};
    std::memcpy(&value, get_bytes(sizeof value), sizeof value);
    return value;
  }
  const char* get_bytes(size_t count);  // aborts the process where there are fewer: a defect of the stand-in

 private:
  const char* at_;
  const char* end_;
};

// false: the other side has gone.
bool send_message(int socket, const Message& message);
bool receive_message(int socket, Message& message);
bool send_reply(int socket, ncclResult_t result, const std::string& text, const std::vector<char>& outputs);

int listen_at(const std::string& name);   // -1 where the system refuses
int connect_to(const std::string& name);  // likewise

// to[i] = to[i] op from[i]; false: not modelled.
bool can_reduce(ncclDataType_t type, ncclRedOp_t reduction);
void reduce(ncclDataType_t type, ncclRedOp_t reduction, void* to, const void* from, size_t count);

}  // namespace cuda_host::nccl
