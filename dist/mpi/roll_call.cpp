#include "dist/mpi/roll_call.h"

#include <fmt/ranges.h>

#include <array>
#include <chrono>
#include <thread>

#include "core/base/index.h"

namespace muonp::dist {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kTimeToAnswer{1000};
constexpr std::chrono::seconds kTimeToEndTheOthers{10};

// What a rank says of itself. The words and the room for what others say outlive the call: their messages may still be
// under way when it returns.
constexpr char kWaits = 1, kComesLate = 0;

}  // namespace

bool RollCall::is_called() const {
  const std::lock_guard lock(session_.calls());
  int called = 0;
  return MPI_Iprobe(MPI_ANY_SOURCE, kRollCallTag, comm_, &called, MPI_STATUS_IGNORE) == MPI_SUCCESS && called;
}

std::string RollCall::call(bool waited) {
  const std::lock_guard lock(calling_);
  if (!answers_) answers_ = collect(waited);
  const bool speaks = answers_->waiting.contains(session_.rank()) && *answers_->waiting.begin() == session_.rank();
  if (!speaks) std::this_thread::sleep_for(kTimeToEndTheOthers);
  std::vector<std::string> causes;
  for (const int r : answers_->silent)
    causes.push_back(fmt::format("nothing came from rank {} ({})", r, session_.host_of(r)));
  return fmt::format("{}", fmt::join(causes, "; "));
}

// Return codes say nothing new here: what fails is an answer that does not come.
RollCall::Answers RollCall::collect(bool waited) const {
  static const std::array<char, 2> words = {kComesLate, kWaits};
  const auto size = static_cast<std::size_t>(session_.size());
  std::vector<MPI_Request> requests(size, MPI_REQUEST_NULL);
  auto& said = *new std::vector<char>(size, kComesLate);  // of this process until its end, which is near
  for (int r = 0; r < session_.size(); ++r) {
    if (r == session_.rank()) continue;
    const std::lock_guard lock(session_.calls());
    MPI_Request told = MPI_REQUEST_NULL;
    MPI_Isend(&words[waited], 1, MPI_CHAR, r, kRollCallTag, comm_, &told);
    MPI_Request_free(&told);
    MPI_Irecv(&said[core::at(r)], 1, MPI_CHAR, r, kRollCallTag, comm_, &requests[core::at(r)]);
  }
  const auto end = Clock::now() + kTimeToAnswer;
  for (int all = 0; !all && Clock::now() < end; std::this_thread::sleep_for(std::chrono::milliseconds(1))) {
    const std::lock_guard lock(session_.calls());
    MPI_Testall(session_.size(), requests.data(), &all, MPI_STATUSES_IGNORE);
  }
  const std::lock_guard lock(session_.calls());
  Answers answers;
  if (waited) answers.waiting.insert(session_.rank());
  for (int r = 0; r < session_.size(); ++r) {
    if (r == session_.rank()) continue;
    MPI_Request& answer = requests[core::at(r)];
    int answered = 1;
    if (answer != MPI_REQUEST_NULL) MPI_Test(&answer, &answered, MPI_STATUS_IGNORE);
    if (answered && said[core::at(r)] == kWaits) answers.waiting.insert(r);
    if (answered) continue;
    answers.silent.push_back(r);
    MPI_Cancel(&answer);
    MPI_Request_free(&answer);
  }
  return answers;
}

}  // namespace muonp::dist
