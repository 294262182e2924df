#include "launch/session.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>

#include "core/error.h"
#include "dist/local.h"

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
  if (settings.ranks) return dist::MpiSession::launched() ? std::make_unique<dist::MpiSession>() : nullptr;
  if (const int size = launched_as().size; size > 1)
    core::fail("this command runs in one process, but {} were started; call it without mpirun", size);
  return nullptr;
}

std::unique_ptr<core::Device> make_device(const std::string& kind, int threads, bool emulate_bfloat16) {
  if (kind == "cuda") core::fail("device: cuda: this build has no CUDA support; valid here are auto and cpu");
  if (kind != "auto" && kind != "cpu")
    core::fail("device: '{}' is unknown; valid are auto, cpu and cuda", kind);
  return core::make_cpu_device(threads, emulate_bfloat16 ? core::Bfloat16::emulated : core::Bfloat16::native);
}

}  // namespace

LaunchedAs launched_as() {
  constexpr const char* kNames[][2] = {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                       {"PMI_RANK", "PMI_SIZE"}};
  for (const auto& [rank, size] : kNames)
    if (const int processes = environment_number(size, 0); processes >= 1)
      return {environment_number(rank, 0), processes};
  return {};
}

int threads_per_rank(int wanted, int cores, int local_ranks) {
  MUONP_ASSERT(wanted >= 0 && local_ranks >= 1, "{} threads, {} ranks on this host", wanted, local_ranks);
  return wanted > 0 ? wanted : std::max(1, cores / local_ranks);
}

void Session::open(const SessionSettings& settings) {
  MUONP_ASSERT(!device_ && !mpi_, "a session is opened once");
  mpi_ = start_mpi(settings);
  if (mpi_) log_ = core::Log(mpi_->rank(), mpi_->size());
  threads_ = threads_per_rank(settings.threads, core::available_cores(), local_size());
  device_ = make_device(settings.device, threads_, settings.emulate_bfloat16);
  communicator_ = mpi_ ? dist::make_mpi(*mpi_, settings.timeout_seconds) : dist::make_local();
}

void Session::close() {
  communicator_.reset();
  device_.reset();
  if (mpi_) mpi_->close();
}

}  // namespace muonp::launch
