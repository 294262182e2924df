// Where the ranks of one clique meet: a thread of the process that made the unique id. Every rank is connected to it.
// It sees what all ranks call, so it compares, moves, adds up, and knows who has not come.
#pragma once

#include <chrono>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "nccl_message.h"

namespace cuda_host::nccl {

class Hub {
 public:
  // listener: a socket that ranks connect to. timeout: how long a rank waits for others before that is reported.
  Hub(int listener, std::chrono::milliseconds timeout);
  ~Hub();
  Hub(const Hub&) = delete;
  Hub& operator=(const Hub&) = delete;

  void serve();  // until all ranks have gone, or none has come within the time-out

 private:
  using Clock = std::chrono::steady_clock;

  struct Part {  // one call of a group
    Operation operation;
    const char* input;
    std::vector<char> output;
    bool done = false;
  };
  struct Rank {
    int socket = -1;
    int node = 0, device = -1;
    bool gone = false;
    Message message;  // that it waits for; `parts` point into it
    std::vector<Part> parts;
    Clock::time_point since;  // when it began to wait
    bool waits = false;
  };

  bool pump(Clock::time_point now);  // waits for what comes; false when there is nothing left to serve
  void accept_one();
  void greet(int socket);
  void read_from(size_t rank);
  void read_group(Rank& rank);
  void leave(size_t rank);

  void advance();
  bool match_messages();
  bool match_collective();
  std::string difference(const std::vector<Part*>& parts) const;
  void run_collective(const std::vector<Part*>& parts);
  void answer_complete();
  void answer_finalize();
  void check_circle();
  void check_time(Clock::time_point now);

  bool complete(const Rank& rank) const;
  Part* next_collective(Rank& rank) const;
  Part* next_message(Rank& rank, Call call, size_t peer) const;
  std::string waits_in(size_t rank) const;
  std::string missing_ranks() const;
  void answer(Rank& rank, ncclResult_t result, const std::string& text);
  void fail(ncclResult_t result, const std::string& text, bool reported);

  int listener_;
  std::chrono::milliseconds timeout_;
  Clock::time_point started_ = Clock::now();
  std::vector<Rank> ranks_;  // empty before the first has come
  size_t present_ = 0;
  bool ready_ = false;                  // all have come, and were told so
  ncclResult_t failure_ = ncclSuccess;  // what every call from now on gets
  std::string failure_text_;
};

// Listens under `name` and serves there on a thread of its own. false where the system refuses.
bool start_hub(const std::string& name, std::chrono::milliseconds timeout);

}  // namespace cuda_host::nccl
