#include "nccl_comm.h"

#include <sys/socket.h>
#include <unistd.h>

#include <ctime>
#include <map>
#include <thread>

#include "cuda_host_nccl.h"

namespace cuda_host {
namespace nccl {
namespace {

struct Registry {
  Lock lock;
  std::map<ncclComm*, CommRef> comms;  // dead ones too, so that no handle comes twice
  std::string last_text;
  std::atomic<uint32_t> under_way{0};
};

Registry& registry() {
  static Registry* registry = new Registry;  // outlives every static of the program
  return *registry;
}

const char* name_of(State state) {
  return state == State::kFinalized ? "finalized" : state == State::kDestroyed ? "destroyed" : "aborted";
}

bool is_live(const ncclComm& comm) { return comm.state == State::kOpen || comm.state == State::kFinalized; }

// So that a program that does not wait for ncclCommGetAsyncError shows it.
void delay() {
  if (settings().mode == Mode::kInline || settings().max_delay_us == 0) return;
  thread_local uint64_t random = settings().seed * 0x9e3779b97f4a7c15ULL + reinterpret_cast<uintptr_t>(&random);
  random = random * 6364136223846793005ULL + 1442695040888963407ULL;
  const timespec time{0, static_cast<long>((random >> 33) % settings().max_delay_us) * 1000};
  nanosleep(&time, nullptr);
}

// Sends a message and takes the reply; false: failed, or aborted meanwhile, with the result set.
bool exchange(ncclComm& comm, Message message, Message& reply) {
  std::shared_ptr<Socket> socket;
  {
    Hold hold(comm.lock);
    if (!is_live(comm) || comm.result != ncclSuccess) return false;
    socket = comm.socket;
  }
  if (!send_message(socket->get(), message) || !receive_message(socket->get(), reply)) {
    bool live = false;
    {
      Hold hold(comm.lock);
      live = is_live(comm);
    }
    if (live) set_error(comm, ncclRemoteError, "the rank that made the unique id has ended");
    return false;
  }
  Reader reader(reply.body);
  const auto result = reader.get<ncclResult_t>();
  const auto length = reader.get<uint64_t>();
  const std::string text(reader.get_bytes(length), length);
  if (result != ncclSuccess) set_error(comm, result, text);
  return result == ncclSuccess;
}

Message encode(const ncclComm& comm, const std::vector<Request>& requests) {
  Writer writer;
  writer.put(uint64_t{requests.size()});
  for (const Request& request : requests) writer.put(request.operation);
  DeviceAccess access(device_bit(comm.device));
  for (const Request& request : requests) {
    writer.put_bytes(request.send, request.operation.input_bytes(comm.rank, comm.ranks));
  }
  return {Kind::kGroup, std::move(writer.body)};
}

void store_outputs(const ncclComm& comm, const std::vector<Request>& requests, const Message& reply) {
  Reader reader(reply.body);
  reader.get<ncclResult_t>();
  reader.get_bytes(reader.get<uint64_t>());
  DeviceAccess access(device_bit(comm.device));
  for (const Request& request : requests) {
    const size_t bytes = request.operation.output_bytes(comm.ranks);
    if (bytes > 0) std::memcpy(request.receive, reader.get_bytes(bytes), bytes);
  }
}

// What an operation that failed leaves is undefined.
void spoil_outputs(const ncclComm& comm, const std::vector<Request>& requests) {
  DeviceAccess access(device_bit(comm.device));
  for (const Request& request : requests) {
    auto* to = static_cast<char*>(request.receive);
    for (size_t i = 0; i < request.operation.output_bytes(comm.ranks); ++i) {
      to[i] = reinterpret_cast<const char*>(&kFreshPattern)[(reinterpret_cast<uintptr_t>(to) + i) % 8];
    }
  }
}

void run_group(ncclComm& comm, const std::vector<Request>& requests) {
  for (const Request& request : requests) {
    announce_read(request.send, request.operation.input_bytes(comm.rank, comm.ranks));
    announce_write(request.receive, request.operation.output_bytes(comm.ranks));
  }
  IgnoredBySanitizer ignored;  // sockets order nothing on a device
  Message reply;
  if (exchange(comm, encode(comm, requests), reply)) {
    store_outputs(comm, requests, reply);
  } else {
    spoil_outputs(comm, requests);
  }
}

}  // namespace

Socket::~Socket() { ::close(descriptor_); }
void Socket::hang_up() { ::shutdown(descriptor_, SHUT_RDWR); }

CommRef make_comm(const ncclUniqueId& id, int ranks, int rank, bool blocking) {
  Hold hold(registry().lock);
  auto comm = std::make_shared<ncclComm>();
  comm->id.assign(id.internal, strnlen(id.internal, sizeof id.internal));
  comm->ranks = ranks;
  comm->rank = rank;
  comm->device = current_device_index();
  comm->blocking = blocking;
  registry().comms[comm.get()] = comm;
  return comm;
}

CommRef find_comm(const char* function, ncclComm_t handle) {
  std::string what = "never created";
  if (handle != nullptr) {
    Hold hold(registry().lock);
    const auto found = registry().comms.find(handle);
    if (found != registry().comms.end()) {
      Hold hold_comm(handle->lock);
      if (is_live(*handle)) return found->second;
      what = name_of(handle->state);
    }
  }
  report(std::string(function) + ": communicator " + hex(handle) + " was " + what);
  return nullptr;
}

void set_error(ncclComm& comm, ncclResult_t result, const std::string& text) {
  {
    Hold hold(comm.lock);
    if (comm.result == ncclSuccess) {
      comm.result = result;
      comm.text = text;
    }
  }
  Hold hold(registry().lock);
  registry().last_text = text;
}

std::string last_error_text() {
  Hold hold(registry().lock);
  return registry().last_text;
}

ncclResult_t run(const CommRef& comm, std::function<void()> work) {
  if (comm->blocking) {
    work();
    Hold hold(comm->lock);
    return comm->result;
  }
  {
    Hold hold(comm->lock);
    comm->in_progress = true;
  }
  registry().under_way.fetch_add(1);
  std::thread([comm, work = std::move(work)] {
    delay();
    work();
    {
      Hold hold(comm->lock);
      comm->in_progress = false;
    }
    registry().under_way.fetch_sub(1);
  }).detach();
  return ncclInProgress;
}

void connect(const CommRef& comm) {
  IgnoredBySanitizer ignored;
  const int descriptor = connect_to(comm->id);
  if (descriptor < 0) return set_error(*comm, ncclSystemError, "the rank that made the unique id has ended");
  {
    auto socket = std::make_shared<Socket>(descriptor);
    Hold hold(comm->lock);
    if (comm->state == State::kOpen) comm->socket = std::move(socket);
  }
  Writer writer;
  writer.put(Hello{comm->ranks, comm->rank, settings().node, comm->device});
  Message reply;
  exchange(*comm, {Kind::kHello, std::move(writer.body)}, reply);
}

void issue(const CommRef& comm, CUstream_st& stream, const std::vector<Request>& requests) {
  std::vector<TicketRef> waits;  // operations of one communicator never run beside each other
  {
    Hold hold(comm->lock);
    if (comm->last) waits.push_back(comm->last);
  }
  const TicketRef ticket = submit(stream, 0, make_task([comm, requests] { run_group(*comm, requests); }), std::move(waits));
  Hold hold(comm->lock);
  comm->last = ticket;
}

void finalize(const CommRef& comm) {
  IgnoredBySanitizer ignored;
  TicketRef last;
  {
    Hold hold(comm->lock);
    last = comm->last;
  }
  if (last) last->wait();
  Message reply;
  if (!exchange(*comm, {Kind::kFinalize, {}}, reply)) return;
  Hold hold(comm->lock);
  if (comm->state == State::kOpen) comm->state = State::kFinalized;
}

void hang_up(ncclComm& comm, State state) {
  {
    Hold hold(comm.lock);
    comm.state = state;
    if (comm.socket) comm.socket->hang_up();
    comm.socket.reset();
  }
  for (bool in_progress = true; in_progress; sched_yield()) {
    Hold hold(comm.lock);
    in_progress = comm.in_progress;
  }
}

}  // namespace nccl

void provoke_async_error(int device, ncclResult_t error, const std::string& text) {
  std::vector<nccl::CommRef> comms;
  {
    Hold hold(nccl::registry().lock);
    for (const auto& [handle, comm] : nccl::registry().comms) {
      if (comm->device == device) comms.push_back(comm);
    }
  }
  for (const nccl::CommRef& comm : comms) nccl::set_error(*comm, error, text);
}

size_t live_communicators() {
  Hold hold(nccl::registry().lock);
  size_t count = 0;
  for (const auto& [handle, comm] : nccl::registry().comms) {
    Hold hold_comm(comm->lock);
    count += nccl::is_live(*comm) ? 1 : 0;
  }
  return count;
}

void forget_communicators() {
  {
    Hold hold(nccl::registry().lock);
    for (const auto& [handle, comm] : nccl::registry().comms) {
      nccl::hang_up(*comm, nccl::State::kDestroyed);
      comm->last = {};
    }
  }
  while (nccl::registry().under_way.load() > 0) sched_yield();
}

}  // namespace cuda_host
