// Messages in flight, and waiting for them with a time-out. Internal to dist: includes mpi.h.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "dist/mpi/roll_call.h"

namespace muonp::dist {

// Throws Error with the quoted call, MPI's text for `code`, rank and host; does nothing on MPI_SUCCESS.
void check_mpi(int code, const char* call, const MpiSession& session);
#define MUONP_MPI(session, call) ::muonp::dist::check_mpi((call), #call, (session))

// Where messages go and how long to wait for them.
struct MpiChannel {
  const MpiSession& session;
  MPI_Comm comm;
  double timeout_seconds;
  int tag = kRollCallTag + 1;
  std::string operation = {};  // for messages: "all_gather of 12 float32 (operation 17)"
  RollCall& roll_call;         // of `comm`
  int crowded = 0;             // see Backoff: waits to come in which polling gives way to computation
};

// A set of messages that are waited for together.
class MpiRequests {
 public:
  explicit MpiRequests(MpiChannel& channel) : channel_(channel) {}
  ~MpiRequests();
  MpiRequests(const MpiRequests&) = delete;
  MpiRequests& operator=(const MpiRequests&) = delete;

  void send(const void* data, std::int64_t bytes, int peer);
  void receive(void* data, std::int64_t bytes, int peer);
  void add(MPI_Request request);  // a non-blocking collective: waited for only
  bool empty() const { return requests_.empty(); }
  // Until all have completed, however long that takes while some do; checks lengths; empties the set. Error when nothing
  // completes for the time-out, or when another rank has called the roll for that reason (mpi_roll_call.h): it names the
  // ranks that do not answer, which need not be those that this rank waits for.
  void wait();

 private:
  enum class Kind : std::uint8_t { send, receive, other };
  struct Message {
    Kind kind;
    int peer;
    std::int64_t bytes;
  };
  void push(MPI_Request request, Message message);
  void check(const Message& message, const MPI_Status& status, bool has_error) const;
  [[noreturn]] void time_out(double seconds, bool waited);
  std::string pending_peers();

  MpiChannel& channel_;
  std::vector<MPI_Request> requests_;
  std::vector<Message> messages_;
};

}  // namespace muonp::dist
