#include "nccl_hub.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "report.h"
#include "sanitizer.h"

namespace cuda_host::nccl {

using namespace std::chrono_literals;

Hub::Hub(int listener, std::chrono::milliseconds timeout) : listener_(listener), timeout_(timeout) {}

Hub::~Hub() {
  ::close(listener_);
  for (const Rank& rank : ranks_) {
    if (rank.socket >= 0) ::close(rank.socket);
  }
}

void Hub::serve() {
  while (pump(Clock::now())) advance();
}

bool Hub::pump(Clock::time_point now) {
  std::vector<pollfd> sockets = {{listener_, POLLIN, 0}};
  std::vector<size_t> of_rank = {0};
  for (size_t r = 0; r < ranks_.size(); ++r) {
    if (ranks_[r].socket < 0) continue;
    sockets.push_back({ranks_[r].socket, POLLIN, 0});
    of_rank.push_back(r);
  }
  const bool all_came = !ranks_.empty() && present_ == ranks_.size();
  if (sockets.size() == 1 && (all_came || now - started_ > timeout_)) return false;
  ::poll(sockets.data(), sockets.size(), 20);
  if ((sockets[0].revents & POLLIN) != 0) accept_one();
  for (size_t i = 1; i < sockets.size(); ++i) {
    if (sockets[i].revents != 0) read_from(of_rank[i]);
  }
  check_time(Clock::now());
  return true;
}

void Hub::accept_one() {
  const int socket = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  if (socket >= 0) greet(socket);
}

void Hub::greet(int socket) {
  Message message;
  if (!receive_message(socket, message) || message.kind != Kind::kHello) {
    ::close(socket);
    return;
  }
  const auto hello = Reader(message.body).get<Hello>();
  const auto index = static_cast<size_t>(hello.rank);
  if (ranks_.empty()) ranks_.resize(static_cast<size_t>(hello.ranks));
  if (static_cast<size_t>(hello.ranks) != ranks_.size()) {
    fail(ncclInvalidArgument,
         "ncclCommInitRank: rank " + std::to_string(hello.rank) + " of " + std::to_string(hello.ranks) +
             ", where another rank said " + std::to_string(ranks_.size()) + " ranks",
         true);
  } else if (ranks_[index].device >= 0) {
    fail(ncclInvalidUsage, "ncclCommInitRank: rank " + std::to_string(hello.rank) + " was taken twice", true);
  }
  if (index >= ranks_.size() || ranks_[index].device >= 0 || failure_ != ncclSuccess) {
    send_reply(socket, failure_, failure_text_, {});
    ::close(socket);
    return;
  }
  Rank& rank = ranks_[index];
  rank.socket = socket;
  rank.node = hello.node;
  rank.device = hello.device;
  rank.waits = true;
  rank.message = std::move(message);
  rank.since = Clock::now();
  if (++present_ < ranks_.size()) return;
  for (size_t a = 0; a < ranks_.size(); ++a) {
    for (size_t b = a + 1; b < ranks_.size(); ++b) {
      const bool shared = ranks_[a].node == ranks_[b].node && ranks_[a].device == ranks_[b].device;
      if (!shared || failure_ != ncclSuccess) continue;
      fail(ncclInvalidUsage,
           "Duplicate GPU detected : rank " + std::to_string(a) + " and rank " + std::to_string(b) +
               " both on CUDA device " + std::to_string(ranks_[a].device),
           false);
    }
  }
  if (failure_ != ncclSuccess) return;
  ready_ = true;
  for (Rank& r : ranks_) answer(r, ncclSuccess, "");
}

void Hub::read_from(size_t index) {
  Rank& rank = ranks_[index];
  Message message;
  if (!receive_message(rank.socket, message)) return leave(index);
  rank.message = std::move(message);
  rank.since = Clock::now();
  rank.waits = true;
  rank.parts.clear();
  if (rank.message.kind == Kind::kGroup) read_group(rank);
  if (failure_ != ncclSuccess) answer(rank, failure_, failure_text_);
}

void Hub::read_group(Rank& rank) {
  const int index = static_cast<int>(&rank - ranks_.data()), ranks = static_cast<int>(ranks_.size());
  Reader reader(rank.message.body);
  rank.parts.resize(reader.get<uint64_t>());
  for (Part& part : rank.parts) part.operation = reader.get<Operation>();
  for (Part& part : rank.parts) {
    part.input = reader.get_bytes(part.operation.input_bytes(index, ranks));
    part.output.resize(part.operation.output_bytes(ranks));
  }
}

// Whoever waits for it, or calls later, is told; that is no misuse by those that stay.
void Hub::leave(size_t index) {
  Rank& rank = ranks_[index];
  ::close(rank.socket);
  rank.socket = -1;
  rank.waits = false;
  rank.gone = true;
  if (failure_ != ncclSuccess) return;
  failure_ = ncclRemoteError;
  failure_text_ = "rank " + std::to_string(index) + " has left the communicator or ended";
  for (auto other = ranks_.rbegin(); other != ranks_.rend(); ++other) {
    if (other->waits) answer(*other, failure_, failure_text_);
  }
}

void Hub::answer(Rank& rank, ncclResult_t result, const std::string& text) {
  std::vector<char> outputs;
  for (const Part& part : rank.parts) outputs.insert(outputs.end(), part.output.begin(), part.output.end());
  send_reply(rank.socket, result, text, outputs);  // a rank that has gone is found by the next poll
  rank.waits = false;
}

void Hub::fail(ncclResult_t result, const std::string& text, bool reported) {
  if (failure_ != ncclSuccess) return;
  failure_ = result;
  failure_text_ = text;
  if (reported) report("NCCL: " + text);
  for (Rank& rank : ranks_) {
    if (rank.waits) answer(rank, failure_, failure_text_);
  }
}

std::string Hub::waits_in(size_t index) const {
  const Rank& rank = ranks_[index];
  const std::string who = "rank " + std::to_string(index) + " ";
  if (rank.gone) return who + "has left";
  if (!rank.waits) return who + "calls nothing";
  if (rank.message.kind == Kind::kHello) return who + "is in ncclCommInitRank";
  if (rank.message.kind == Kind::kFinalize) return who + "is in ncclCommFinalize";
  for (const Part& part : rank.parts) {
    if (!part.done) return who + "is in " + describe(part.operation);
  }
  return who + "has what it waits for";
}

std::string Hub::missing_ranks() const {
  std::string text;
  for (size_t r = 0; r < ranks_.size(); ++r) {
    if (ranks_[r].device < 0) text += (text.empty() ? "rank " : ", rank ") + std::to_string(r);
  }
  return text;
}

void Hub::check_time(Clock::time_point now) {
  if (failure_ != ncclSuccess) return;
  for (size_t r = 0; r < ranks_.size(); ++r) {
    if (!ranks_[r].waits || now - ranks_[r].since < timeout_) continue;
    std::string text = "no progress for " + std::to_string(timeout_ / 1s) + " s: ";
    if (!ready_) {
      text += missing_ranks() + " of " + std::to_string(ranks_.size()) + " did not call ncclCommInitRank";
    } else {
      for (size_t other = 0; other < ranks_.size(); ++other) text += (other > 0 ? "; " : "") + waits_in(other);
    }
    return fail(ncclInvalidUsage, text, true);
  }
}

bool start_hub(const std::string& name, std::chrono::milliseconds timeout) {
  const int listener = listen_at(name);
  if (listener < 0) return false;
  std::thread([listener, timeout] {
    IgnoredBySanitizer ignored;
    Hub(listener, timeout).serve();
  }).detach();
  return true;
}

}  // namespace cuda_host::nccl
