#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <set>
#include <thread>

#include <unistd.h>

#include "core/base/hostname.h"
#include "core/base/index.h"
#include "dist/mpi/messages.h"
#include "dist/mpi/requests.h"

#include "core/base/math.h"

namespace muonp::dist {

namespace {

constexpr std::size_t kHostLength = 256;

// For a lower rank to print the same failure first, and to end this one; rank 0 may be the one that is gone.
std::chrono::milliseconds grace_of(int rank) { return std::chrono::milliseconds(400) * std::min(rank, 4); }

// As the launcher says, for the order in which ranks speak before MPI knows.
int launched_rank() {
  for (const char* name : {"PMIX_RANK", "PMI_RANK"})
    if (const char* rank = std::getenv(name)) return std::atoi(rank);
  return 0;
}

std::string contents_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// "rank 1 is stopped, rank 2 is stopped": of this job, on this host, as the system knows them; empty if there is none.
std::string stopped_ranks() {
  const char* job = std::getenv("PMIX_NAMESPACE");
  std::set<int> ranks;
  std::error_code error;
  std::filesystem::directory_iterator process("/proc", error), end;
  for (; job != nullptr && !error && process != end; process.increment(error)) {
    const std::filesystem::path folder = process->path();
    if (folder.filename().string().find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string stat = contents_of(folder / "stat");  // "17 (muonp) T ..."
    const std::size_t name_end = stat.rfind(") ");
    if (name_end == std::string::npos || stat[name_end + 2] != 'T') continue;
    const std::string environment = '\0' + contents_of(folder / "environ");
    const std::string rank = std::string("\0PMIX_RANK=", 11), name = std::string("\0PMIX_NAMESPACE=", 16) + job + '\0';
    const std::size_t at = environment.find(rank);
    if (environment.find(name) != std::string::npos && at != std::string::npos)
      ranks.insert(std::atoi(environment.c_str() + at + rank.size()));
  }
  std::string text;
  for (const int r : ranks) text += fmt::format("{}rank {} is stopped", text.empty() ? "" : ", ", r);
  return text;
}

// Ends this process, and with it the job, while one of MPI's own calls does not return: that can neither be given up nor
// tell which rank is missing. On a host with a stopped rank the others know, and speak first.
class Watch {
 public:
  Watch(std::string call, int rank, double timeout_seconds)
      : thread_([=](const std::stop_token& stop) {
          std::mutex mutex;
          std::unique_lock lock(mutex);
          std::condition_variable_any ended;
          const auto ended_within = [&](std::chrono::duration<double> time) {
            return ended.wait_for(lock, stop, time, [&] { return stop.stop_requested(); });
          };
          // In short waits, so that time in which this process was stopped itself does not count.
          for (double waited = 0; waited < timeout_seconds; waited += kTick.count())
            if (ended_within(kTick)) return;
          std::string why = stopped_ranks();
          if (ended_within(4 * grace_of(rank))) return;  // without MPI the launcher takes longer to end the others
          if (why.empty()) {
            if (ended_within(kForThoseWhoKnow)) return;
            why = "a rank has stopped or did not start, or its host cannot be reached";
          }
          std::fprintf(stderr, "muonp: error: rank %d on %s: %s has not ended after %g s: %s\n", rank,
                       core::hostname().c_str(), call.c_str(), timeout_seconds, why.c_str());
          std::fflush(nullptr);
          std::_Exit(1);
        }) {}

 private:
  static constexpr std::chrono::duration<double> kTick{0.2};
  static constexpr std::chrono::seconds kForThoseWhoKnow{8};
  std::jthread thread_;
};

}  // namespace

bool MpiSession::launched() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"})
    if (std::getenv(name) != nullptr) return true;
  return false;
}

MpiSession::MpiSession(double timeout_seconds, double start_seconds)
    : timeout_seconds_(timeout_seconds), start_seconds_(start_seconds) {
  int started = 0;
  MPI_Initialized(&started);
  if (started) core::fail("MPI has been started before in this process; it can be started once");
  const Watch watch("the start of MPI", launched_rank(), start_seconds);
  int provided = MPI_THREAD_SINGLE;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS)
    core::fail("MPI_Init_thread failed; start the program with mpirun -np N");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &size_);
  host_names_.assign(static_cast<std::size_t>(size_), "its host is not known yet");
  host_names_[core::at(rank_)] = core::hostname();
  if (provided < MPI_THREAD_SERIALIZED)
    core::fail("this MPI ({}) was built without thread support; MPI_THREAD_SERIALIZED is needed", library());
  try {
    meet("start of all ranks");
    count_hosts();
  } catch (const std::exception& e) {
    abort_all(e.what());
  }
}

// Host names to and from all ranks, as the first and the last messages of a job: a rank that does not come is named.
void MpiSession::meet(const char* operation) {
  RollCall roll_call(*this, MPI_COMM_WORLD);
  MpiChannel channel{.session = *this,
                     .comm = MPI_COMM_WORLD,
                     .timeout_seconds = timeout_seconds_,
                     .operation = operation,
                     .roll_call = roll_call};
  std::vector<char> names(host_names_.size() * kHostLength);  // this rank's first, then those of the ranks after it
  host().copy(names.data(), kHostLength - 1);
  gather_blocks(channel, equal_blocks(size_, kHostLength), names.data());
  for (int i = 0; i < size_; ++i) host_names_[core::at((rank_ + i) % size_)] = names.data() + i * std::int64_t{kHostLength};
}

// Ranks of a host are those that share memory: host names may be equal.
void MpiSession::count_hosts() {
  MPI_Comm host_comm = MPI_COMM_NULL;
  MUONP_MPI(*this, MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &host_comm));
  MUONP_MPI(*this, MPI_Comm_rank(host_comm, &local_rank_));
  MUONP_MPI(*this, MPI_Comm_size(host_comm, &local_size_));
  MUONP_MPI(*this, MPI_Comm_free(&host_comm));
  hosts_ = core::to_int(std::set<std::string>(host_names_.begin(), host_names_.end()).size());
}

std::string MpiSession::library() const {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  MPI_Get_library_version(text.data(), &length);
  std::string name(text.data());
  name = name.substr(0, name.find_first_of(",\n"));
  if (const auto v = name.find(" v"); v != std::string::npos) name.erase(v + 1, 1);
  return name;
}

MpiSession::~MpiSession() {
  if (!open_) return;
  if (std::uncaught_exceptions() > 0) abort_all("ended by an exception");
  try {
    close();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "muonp: error: %s\n", e.what());
  }
}

void MpiSession::close() {
  if (!open_) return;
  meet("end of all ranks");
  open_ = false;
  const Watch watch("the end of MPI", rank_, start_seconds_);
  MUONP_MPI(*this, MPI_Finalize());
}

void MpiSession::abort_all(const std::string& why, int status) const noexcept {
  static std::atomic_flag speaking;  // one thread does, the others of this process see consequences
  while (speaking.test_and_set()) std::this_thread::sleep_for(std::chrono::seconds(1));
  std::this_thread::sleep_for(grace_of(rank_));
  std::fprintf(stderr, "muonp: error: rank %d of %d on %s: %s\n", rank_, size_, host_names_[core::at(rank_)].c_str(),
               why.c_str());
  std::fflush(nullptr);
  MPI_Abort(MPI_COMM_WORLD, status);
  std::_Exit(status);
}

}  // namespace muonp::dist
