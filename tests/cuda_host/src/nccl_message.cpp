#include "nccl_message.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>

namespace cuda_host::nccl {
namespace {

struct Header {
  Kind kind;
  uint64_t bytes;
};

bool send_all(int socket, const char* data, size_t bytes) {
  while (bytes > 0) {
    const ssize_t sent = ::send(socket, data, bytes, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    data += sent;
    bytes -= static_cast<size_t>(sent);
  }
  return true;
}

bool receive_all(int socket, char* data, size_t bytes) {
  while (bytes > 0) {
    const ssize_t got = ::recv(socket, data, bytes, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    data += got;
    bytes -= static_cast<size_t>(got);
  }
  return true;
}

// In the abstract namespace: no file, gone with the last socket.
socklen_t address_of(const std::string& name, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
}

}  // namespace

const char* name_of(Call call) {
  constexpr const char* kNames[] = {"ncclAllReduce", "ncclReduceScatter", "ncclAllGather",
                                    "ncclBroadcast", "ncclSend",          "ncclRecv"};
  return kNames[static_cast<int>(call)];
}

const char* name_of(ncclDataType_t type) {
  constexpr const char* kNames[] = {"ncclInt8",   "ncclUint8",   "ncclInt32",   "ncclUint32",  "ncclInt64",
                                    "ncclUint64", "ncclFloat16", "ncclFloat32", "ncclFloat64", "ncclBfloat16"};
  return size_of(type) > 0 ? kNames[type] : "an unknown type";
}

const char* name_of(ncclRedOp_t reduction) {
  constexpr const char* kNames[] = {"ncclSum", "ncclProd", "ncclMax", "ncclMin", "ncclAvg"};
  return reduction >= 0 && reduction < ncclNumOps ? kNames[reduction] : "an unknown reduction";
}

size_t size_of(ncclDataType_t type) {
  constexpr size_t kSizes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};
  return type >= 0 && type <= ncclBfloat16 ? kSizes[type] : 0;
}

uint64_t Operation::input_bytes(int rank, int ranks) const {
  switch (call) {
    case Call::kReduceScatter:
      return bytes() * static_cast<uint64_t>(ranks);
    case Call::kBroadcast:
      return rank == peer ? bytes() : 0;
    case Call::kRecv:
      return 0;
    default:
      return bytes();
  }
}

uint64_t Operation::output_bytes(int ranks) const {
  if (call == Call::kSend) return 0;
  return call == Call::kAllGather ? bytes() * static_cast<uint64_t>(ranks) : bytes();
}

std::string describe(const Operation& o) {
  std::string text = std::string(name_of(o.call)) + " of " + std::to_string(o.count) + " " + name_of(o.type);
  if (o.call == Call::kAllReduce || o.call == Call::kReduceScatter) text += std::string(", ") + name_of(o.reduction);
  if (o.call == Call::kBroadcast) text += ", root " + std::to_string(o.peer);
  if (o.call == Call::kSend) text += " to rank " + std::to_string(o.peer);
  if (o.call == Call::kRecv) text += " from rank " + std::to_string(o.peer);
  return text + " (operation " + std::to_string(o.sequence) + ")";
}

const char* Reader::get_bytes(size_t count) {
  if (count > static_cast<size_t>(end_ - at_)) {
    std::fprintf(stderr, "cuda_host: a message of ranks is cut off\n");
    std::abort();
  }
  const char* bytes = at_;
  at_ += count;
  return bytes;
}

bool send_message(int socket, const Message& message) {
  const Header header{message.kind, message.body.size()};
  return send_all(socket, reinterpret_cast<const char*>(&header), sizeof header) &&
         send_all(socket, message.body.data(), message.body.size());
}

bool receive_message(int socket, Message& message) {
  Header header{};
  if (!receive_all(socket, reinterpret_cast<char*>(&header), sizeof header)) return false;
  message.kind = header.kind;
  message.body.resize(header.bytes);
  return receive_all(socket, message.body.data(), message.body.size());
}

bool send_reply(int socket, ncclResult_t result, const std::string& text, const std::vector<char>& outputs) {
  Writer writer;
  writer.put(result);
  writer.put(static_cast<uint64_t>(text.size()));
  writer.put_bytes(text.data(), text.size());
  writer.put_bytes(outputs.data(), outputs.size());
  return send_message(socket, {Kind::kReply, std::move(writer.body)});
}

int listen_at(const std::string& name) {
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address;
  const socklen_t length = address_of(name, address);
  if (socket >= 0 && ::bind(socket, reinterpret_cast<sockaddr*>(&address), length) == 0 && ::listen(socket, 64) == 0) {
    return socket;
  }
  if (socket >= 0) ::close(socket);
  return -1;
}

int connect_to(const std::string& name) {
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address;
  const socklen_t length = address_of(name, address);
  if (socket >= 0 && ::connect(socket, reinterpret_cast<sockaddr*>(&address), length) == 0) return socket;
  if (socket >= 0) ::close(socket);
  return -1;
}

}  // namespace cuda_host::nccl
