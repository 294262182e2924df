#include "launch/program/session.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <map>
#include <string_view>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/base/processors.h"
#include "core/device/cpu/team.h"
#include "dist/comm/agreement.h"
#include "dist/comm/local.h"
#include "dist/comm/traced.h"
#include "dist/staged/staged.h"

namespace muonp::launch {
namespace {

int environment_number(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  if (text == nullptr) return otherwise;
  const std::string_view digits(text);
  int value = otherwise;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return value;
}

std::unique_ptr<dist::MpiSession> start_mpi(const SessionSettings& settings) {
  const int launched = launched_as().size;
  if (!settings.ranks && launched > 1)
    core::fail("this command runs in one process, but {} were started; call it without mpirun", launched);
  if (!settings.ranks) return nullptr;
  const double start_seconds = std::max(settings.timeout_seconds, dist::kMpiStartSeconds);
  auto mpi =
      dist::MpiSession::launched() ? std::make_unique<dist::MpiSession>(settings.timeout_seconds, start_seconds) : nullptr;
  // Otherwise each would train alone.
  if (const int size = mpi ? mpi->size() : 1; size < launched)
    core::fail(
        "the launcher started {} processes, but MPI sees {}; with Slurm use srun --mpi=pmix (srun --mpi=list shows "
        "what it has), and otherwise the mpirun of the MPI that muonp was built with",
        launched, size);
  return mpi;
}

// The GPU of a rank: the one with its local rank's number, or the only one where the launcher shows each rank its own.
int gpu_of(int local_rank, int local_size, int visible, bool shared) {
  if (shared) return local_rank % visible;
  if (visible == 1 || local_rank < visible) return visible == 1 ? 0 : local_rank;
  core::fail(
      "device: cuda: {} ranks on this host, but {} GPUs are visible; start one rank per GPU, let ranks share them with "
      "parallel.transport: mpi (--transport mpi), or use device: cpu",
      local_size, visible);
}

// A GPU that two ranks would share makes their collectives fail or hang. Collective.
void require_gpu_of_its_own(dist::Communicator& communicator, const core::Device& device) {
  std::map<std::string, int> users;
  const std::vector<std::string> all = communicator.all_gather_bytes(device.identity());
  for (int rank = 0; rank < static_cast<int>(all.size()); ++rank) {
    const auto [user, first] = users.emplace(all[core::at(rank)], rank);
    if (!first)
      throw dist::AgreedError(fmt::format(
          "device: cuda: ranks {} and {} would share one GPU ({}), which NCCL cannot do; start one rank per GPU, or let "
          "them share it with parallel.transport: mpi (--transport mpi)",
          user->second, rank, user->first));
  }
}

}  // namespace

LaunchedAs launched_as() {
  constexpr const char* kNames[][2] = {
      {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"}, {"PMI_RANK", "PMI_SIZE"}, {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"}};
  for (const auto& [rank, size] : kNames)
    if (const int processes = environment_number(size, 0); processes >= 1) return {environment_number(rank, 0), processes};
  return {};
}

int threads_per_rank(std::int64_t wanted, int cores, int local_ranks) {
  MUONP_ASSERT(wanted >= kThreads.min && wanted <= kThreads.max && local_ranks >= 1, "{} threads, {} ranks on this host",
               wanted, local_ranks);
  return wanted > 0 ? static_cast<int>(wanted) : std::max(1, cores / local_ranks);
}

void Session::open(const SessionSettings& settings) {
  MUONP_ASSERT(!device_ && !mpi_, "a session is opened once");
  mpi_ = start_mpi(settings);
  if (mpi_) log_ = core::Log(mpi_->rank(), mpi_->size());
  threads_ = choose_threads(settings.threads);
  host_communicator_ = mpi_ ? dist::make_mpi(*mpi_, settings.timeout_seconds) : dist::make_local();
  dist::run_on_all(*host_communicator_, [&] { open_device(settings); });
  require_same_start(settings.alike);
  if (device_->kind() == core::DeviceKind::cuda) join_gpus(settings);
  in_use_ = gpu_communicator_ ? gpu_communicator_.get() : host_communicator_.get();
}

void Session::join_gpus(const SessionSettings& settings) {
  if (world_size() == 1) {  // NCCL takes seconds to start, and one rank has nobody to talk to
    gpu_communicator_ = dist::make_local(device_.get());
  } else if (settings.staged) {
    gpu_communicator_ = dist::make_staged(*device_, *host_communicator_);
    staged_ = true;
  } else {
    require_gpu_of_its_own(*host_communicator_, *device_);
    auto nccl = dist::make_nccl(*device_, *host_communicator_, settings.timeout_seconds);
    nccl_ = nccl.get();
    gpu_communicator_ = std::move(nccl);
  }
}

void Session::record(core::Trace* trace) {
  if (staged_) gpu_communicator_.reset();  // what it waits for is between the hosts
  traced_.reset();
  dist::Communicator& inner = gpu_communicator_ ? *gpu_communicator_ : *host_communicator_;
  dist::Traced::Moment now;
  if (nccl_ != nullptr) now = [nccl = nccl_] { return nccl->now(); };
  if (trace != nullptr) traced_ = std::make_unique<dist::Traced>(inner, *trace, std::move(now));
  in_use_ = traced_ ? traced_.get() : &inner;
  if (!staged_) return;
  gpu_communicator_ = dist::make_staged(*device_, *in_use_);
  in_use_ = gpu_communicator_.get();
}

int Session::choose_threads(std::int64_t wanted) {
  const core::Processors processors = core::processors();
  const int share = threads_per_rank(wanted, processors.usable(), local_size());
  if (wanted > 0) return share;  // the device refuses what OpenMP does not give
  const int counted = core::cpu::counted_team(share);
  threads_note_ = processors.text();
  if (local_size() > 1) threads_note_ += fmt::format(", {} ranks", local_size());
  if (counted < share) threads_note_ += ", " + core::cpu::what_limits_teams(share);
  return counted;
}

std::string Session::device_text() const {
  const bool explains = device_->kind() == core::DeviceKind::cpu && !threads_note_.empty();
  return explains ? fmt::format("{} ({})", device_->name(), threads_note_) : device_->name();
}

// Before anything that ranks do in different ways when they are not: each would wait for the others in another operation.
void Session::require_same_start(core::NamedValues alike) {
  alike.push_back({"the device in use", device_->kind() == core::DeviceKind::cuda ? "cuda" : "cpu"});
  dist::require_same(*host_communicator_, alike);
}

void Session::open_device(const SessionSettings& settings) {
  const std::string& kind = settings.device;
  if (kind != "auto" && kind != "cpu" && kind != "cuda")
    core::fail("device: '{}' is unknown; valid are auto, cpu and cuda", kind);
  const std::string refusal = kind == "cpu" ? "" : core::cuda_refusal();
  if (kind == "cuda" && !refusal.empty()) core::fail("device: cuda: {}", refusal);
  if (kind == "cpu" || !refusal.empty()) {
    if (kind == "auto" && core::cuda_is_built()) device_note_ = fmt::format("device: auto takes the CPU: {}", refusal);
    const auto bfloat16 = settings.emulate_bfloat16 ? core::Bfloat16::emulated : core::Bfloat16::native;
    device_ = core::make_cpu_device(threads_, bfloat16);
    return;
  }
  const std::string owner = mpi_ ? fmt::format("rank {} on {}", mpi_->rank(), mpi_->host()) : "this process";
  device_ = core::make_cuda_device(gpu_of(local_rank(), local_size(), core::cuda_device_count(), settings.staged), owner);
}

void Session::close() {
  gpu_communicator_.reset();
  traced_.reset();
  host_communicator_.reset();
  device_.reset();
  if (mpi_) mpi_->close();
}

}  // namespace muonp::launch
