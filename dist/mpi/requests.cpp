#include "dist/mpi/requests.h"

#include "core/base/index.h"
#include "core/base/math.h"

#include <fmt/ranges.h>
#include <sched.h>

#include <array>
#include <set>
#include <thread>

namespace muonp::dist {

namespace {

std::string text_of(int code) {
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  return MPI_Error_string(code, text.data(), &length) == MPI_SUCCESS ? text.data() : fmt::format("code {}", code);
}

// Polling that leaves the processor to whoever can use it: a peer on the same core, or this rank's compute
// thread. A yield returns at once on an idle core and within microseconds when peers take turns. When it was
// away for long, a thread that computes has the core: then sleeping is better for this and the next waits,
// because a sleeper that wakes is served before a thread that has used its share.
class Backoff {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Backoff(int& crowded) : crowded_(crowded) {
    if (crowded_ > 0) --crowded_;
  }
  void progress() {
    start_ = Clock::now();
    yields_ = 0;
  }
  // Waited, in seconds in which this process ran: to be stopped and go on is no reason to give others up.
  double seconds() {
    const auto now = Clock::now();
    if (now - last_ > kAway) {
      start_ += now - last_;
      was_away_ = true;
    }
    last_ = now;
    return std::chrono::duration<double>(now - start_).count();
  }
  bool was_away() const { return was_away_; }
  void pause() {
    if (crowded_ > 0 || yields_ >= kYields) return std::this_thread::sleep_for(kSleep);
    const auto before = Clock::now();
    sched_yield();
    ++yields_;
    if (Clock::now() - before > kLongYield) crowded_ = kCrowdedWaits;
  }

 private:
  static constexpr int kYields = 2000;  // about a millisecond: most messages end within it
  static constexpr int kCrowdedWaits = 64;
  static constexpr std::chrono::microseconds kLongYield{200}, kSleep{30};
  static constexpr std::chrono::milliseconds kAway{500};
  int& crowded_;                            // waits that sleep at once
  Clock::time_point start_ = Clock::now();  // or the last message that ended
  Clock::time_point last_ = start_;
  bool was_away_ = false;
  int yields_ = 0;
};

constexpr double kListenAfterSeconds = 0.1;  // a rank that waits looks for a roll call after this time

}  // namespace

void check_mpi(int code, const char* call, const MpiSession& session) {
  if (code == MPI_SUCCESS) return;
  core::fail("{} failed on rank {} of {} ({}): {}", call, session.rank(), session.size(), session.host(), text_of(code));
}

// Only after a failure is anything left here. Receives are cancelled so that nothing is written to memory
// that is about to go; a send only reads, and cannot be cancelled.
MpiRequests::~MpiRequests() {
  const std::lock_guard lock(channel_.session.calls());
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL || messages_[i].kind == Kind::other) continue;
    if (messages_[i].kind == Kind::receive) MPI_Cancel(&requests_[i]);
    MPI_Request_free(&requests_[i]);
  }
}

void MpiRequests::push(MPI_Request request, Message message) {
  requests_.push_back(request);
  messages_.push_back(message);
}

void MpiRequests::send(const void* data, std::int64_t bytes, int peer) {
  const std::lock_guard lock(channel_.session.calls());
  MPI_Request request = MPI_REQUEST_NULL;
  MUONP_MPI(channel_.session, MPI_Isend(data, core::to_int(bytes), MPI_BYTE, peer, channel_.tag, channel_.comm, &request));
  push(request, {Kind::send, peer, bytes});
}

void MpiRequests::receive(void* data, std::int64_t bytes, int peer) {
  const std::lock_guard lock(channel_.session.calls());
  MPI_Request request = MPI_REQUEST_NULL;
  MUONP_MPI(channel_.session, MPI_Irecv(data, core::to_int(bytes), MPI_BYTE, peer, channel_.tag, channel_.comm, &request));
  push(request, {Kind::receive, peer, bytes});
}

void MpiRequests::add(MPI_Request request) { push(request, {Kind::other, channel_.session.rank(), 0}); }

void MpiRequests::wait() {
  std::vector<int> ended(requests_.size());
  std::vector<MPI_Status> statuses(requests_.size());
  Backoff backoff(channel_.crowded);
  for (std::size_t left = requests_.size(); left > 0;) {
    int count = 0;
    int code = MPI_SUCCESS;
    {
      const std::lock_guard lock(channel_.session.calls());
      code = MPI_Testsome(core::to_int(requests_.size()), requests_.data(), &count, ended.data(), statuses.data());
    }
    if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) check_mpi(code, "MPI_Testsome", channel_.session);
    for (std::size_t i = 0; count != MPI_UNDEFINED && i < static_cast<std::size_t>(count); ++i, --left)
      check(messages_[core::at(ended[i])], statuses[i], code == MPI_ERR_IN_STATUS);
    if (left == 0) break;
    if (count > 0) backoff.progress();
    const double waited = backoff.seconds();
    if (waited > channel_.timeout_seconds) time_out(channel_.timeout_seconds, true);
    if (waited > kListenAfterSeconds && channel_.roll_call.is_called())
      time_out(waited, !backoff.was_away() && waited >= channel_.timeout_seconds / 2);
    backoff.pause();
  }
  requests_.clear();
  messages_.clear();
}

void MpiRequests::check(const Message& m, const MPI_Status& status, bool has_error) const {
  const MpiSession& session = channel_.session;
  const int error = has_error ? status.MPI_ERROR : MPI_SUCCESS;
  int length = core::to_int(m.bytes);
  if (error == MPI_SUCCESS && m.kind == Kind::receive) MUONP_MPI(session, MPI_Get_count(&status, MPI_BYTE, &length));
  if (error == MPI_ERR_TRUNCATE || length != m.bytes)
    core::fail("{}: rank {} of {} ({}) expects {} bytes from rank {} ({}), which sent {}", channel_.operation,
               session.rank(), session.size(), session.host(), m.bytes, m.peer, session.host_of(m.peer),
               error == MPI_ERR_TRUNCATE ? "more" : fmt::format("{}", length));
  if (error != MPI_SUCCESS)
    core::fail("{}: the message {} rank {} ({}) failed on rank {} of {} ({}): {}", channel_.operation,
               m.kind == Kind::receive ? "from" : "to", m.peer, session.host_of(m.peer), session.rank(), session.size(),
               session.host(), text_of(error));
}

void MpiRequests::time_out(double seconds, bool waited) {
  const MpiSession& session = channel_.session;
  std::string causes = channel_.roll_call.call(waited);
  if (causes.empty()) causes = pending_peers();  // all ranks are there, and wait for each other
  core::fail("{} made no progress for {:.3g} s on rank {} of {} ({}): {}", channel_.operation, seconds, session.rank(),
             session.size(), session.host(), causes);
}

std::string MpiRequests::pending_peers() {
  const MpiSession& session = channel_.session;
  const std::lock_guard lock(session.calls());
  std::set<int> silent, not_taking;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    int done = 0;
    if (requests_[i] != MPI_REQUEST_NULL && messages_[i].kind != Kind::other &&
        MPI_Request_get_status(requests_[i], &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && !done)
      (messages_[i].kind == Kind::receive ? silent : not_taking).insert(messages_[i].peer);
  }
  std::vector<std::string> peers = {"every rank waits"};
  for (int r : silent) peers.push_back(fmt::format("here nothing came from rank {} ({})", r, session.host_of(r)));
  for (int r : not_taking)
    if (!silent.contains(r)) peers.push_back(fmt::format("rank {} ({}) did not take its message", r, session.host_of(r)));
  return fmt::format("{}", fmt::join(peers, "; "));
}

}  // namespace muonp::dist
