#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <set>
#include <thread>

#include "dist/mpi_requests.h"

namespace muonp::dist {

namespace {

// For a lower rank to print the same failure first, and to end this one; rank 0 may be the one that is gone.
std::chrono::milliseconds grace_of(int rank) { return std::chrono::milliseconds(400) * std::min(rank, 4); }

std::string own_host() {
  std::array<char, MPI_MAX_PROCESSOR_NAME + 1> name{};
  int length = 0;
  return MPI_Get_processor_name(name.data(), &length) == MPI_SUCCESS ? name.data() : "unknown host";
}

}  // namespace

bool MpiSession::launched() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"})
    if (std::getenv(name) != nullptr) return true;
  return false;
}

MpiSession::MpiSession() {
  int started = 0;
  MPI_Initialized(&started);
  if (started) core::fail("MPI has been started before in this process; it can be started once");
  int provided = MPI_THREAD_SINGLE;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS)
    core::fail("MPI_Init_thread failed; start the program with mpirun -np N");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &size_);
  host_names_.assign(static_cast<std::size_t>(size_), own_host());
  if (provided < MPI_THREAD_SERIALIZED)
    core::fail("this MPI ({}) was built without thread support; MPI_THREAD_SERIALIZED is needed", library());
  read_hosts();
}

void MpiSession::read_hosts() {
  MPI_Comm host_comm = MPI_COMM_NULL;
  MUONP_MPI(*this,
            MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &host_comm));
  MUONP_MPI(*this, MPI_Comm_rank(host_comm, &local_rank_));
  MUONP_MPI(*this, MPI_Comm_size(host_comm, &local_size_));
  MUONP_MPI(*this, MPI_Comm_free(&host_comm));

  constexpr std::size_t kLength = MPI_MAX_PROCESSOR_NAME + 1;
  std::array<char, kLength> mine{};
  const std::string name = own_host();
  std::copy_n(name.begin(), std::min(name.size(), kLength - 1), mine.begin());
  std::vector<char> all(kLength * static_cast<std::size_t>(size_));
  MUONP_MPI(*this,
            MPI_Allgather(mine.data(), kLength, MPI_CHAR, all.data(), kLength, MPI_CHAR, MPI_COMM_WORLD));
  for (std::size_t r = 0; r < host_names_.size(); ++r) host_names_[r] = &all[r * kLength];
  hosts_ = static_cast<int>(std::set<std::string>(host_names_.begin(), host_names_.end()).size());
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
  open_ = false;
  MUONP_MPI(*this, MPI_Finalize());
}

void MpiSession::abort_all(const std::string& why, int status) const noexcept {
  static std::atomic_flag speaking;  // one thread does, the others of this process see consequences
  while (speaking.test_and_set()) std::this_thread::sleep_for(std::chrono::seconds(1));
  std::this_thread::sleep_for(grace_of(rank_));
  std::fprintf(stderr, "muonp: error: rank %d of %d on %s: %s\n", rank_, size_,
               host_names_[static_cast<std::size_t>(rank_)].c_str(), why.c_str());
  std::fflush(nullptr);
  MPI_Abort(MPI_COMM_WORLD, status);
  std::_Exit(status);
}

}  // namespace muonp::dist
