// What a subcommand computes with: the MPI session if mpirun started this process, the device, the
// communicator, the log. Built in that order and destroyed in reverse; main owns the only one.
#pragma once

#include <memory>
#include <string>

#include "core/base/log.h"
#include "core/config/config.h"
#include "core/device/trace.h"
#include "dist/comm/communicator.h"
#include "dist/mpi/mpi.h"
#include "dist/nccl/nccl.h"

namespace muonp::launch {

// Threads of a rank that can be asked for; 0: what it may use.
inline constexpr core::IntegerRange kThreads{.min = 0, .max = 1024};

struct SessionSettings {
  std::string device = "auto";    // auto, cpu or cuda
  std::int64_t threads = 0;       // of kThreads, per rank; 0 shares out to the ranks of a host what they may use of it
  double timeout_seconds = 30;    // longest wait for another rank
  bool emulate_bfloat16 = false;  // CPU: bfloat16 products in software (core/device/device.h)
  bool staged = false;            // GPUs: ranks talk through MPI (dist/staged/staged.h) and not NCCL, and may share a GPU
  bool ranks = false;             // true: one session over all processes that mpirun started; false: this process alone
  core::NamedValues alike = {};   // what all ranks must have been started with
};

// Rank and number of processes as the launcher (mpirun, srun) says in the environment, before MPI is
// initialised.
struct LaunchedAs {
  int rank = 0, size = 1;
};
LaunchedAs launched_as();

// Threads of a rank: `wanted`, or for 0 an equal share of the cores, at least one.
int threads_per_rank(std::int64_t wanted, int cores, int local_ranks);

class Session {
 public:
  Session() = default;
  explicit Session(const SessionSettings& settings) { open(settings); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Once. Compares settings.alike, and the kind of device, over all ranks. Error for a device that is not there, and for a
  // command of one process that mpirun started several times. After a failure mpi() is what had been started, for an orderly
  // end of all ranks.
  void open(const SessionSettings& settings);
  // The orderly end: waits for all ranks.
  void close();

  core::Device& device() { return *device_; }
  // NCCL's between GPUs, if not settings.staged.
  dist::Communicator& communicator() { return *in_use_; }
  // From here on communicator() is another one, which records its operations there; or with null the plain one again. What
  // uses the one before must be gone.
  void record(core::Trace* trace);
  // The device's name, and where the number of threads was not asked for, what it was made from.
  std::string device_text() const;
  // Why `auto` did not take a GPU in a build that can; empty otherwise.
  const std::string& device_note() const { return device_note_; }
  const core::Log& log() const { return log_; }
  int rank() const { return log_.rank(); }
  int world_size() const { return mpi_ ? mpi_->size() : 1; }
  int local_rank() const { return mpi_ ? mpi_->local_rank() : 0; }
  int local_size() const { return mpi_ ? mpi_->local_size() : 1; }
  int threads() const { return threads_; }
  dist::MpiSession* mpi() { return mpi_.get(); }  // null for a process alone

 private:
  std::unique_ptr<dist::MpiSession> mpi_;
  int threads_ = 1;
  int choose_threads(std::int64_t wanted);
  void open_device(const SessionSettings& settings);
  void join_gpus(const SessionSettings& settings);
  void require_same_start(core::NamedValues alike);

  std::string threads_note_;
  std::string device_note_;
  std::unique_ptr<core::Device> device_;
  std::unique_ptr<dist::Communicator> host_communicator_, traced_, gpu_communicator_;
  dist::NcclCommunicator* nccl_ = nullptr;  // gpu_communicator_, if it is NCCL's
  bool staged_ = false;                     // gpu_communicator_ goes through the host's
  dist::Communicator* in_use_ = nullptr;
  core::Log log_{0, 1};
};

}  // namespace muonp::launch
