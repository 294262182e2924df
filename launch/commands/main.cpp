// Owns every handle, and turns an exception into one message and an exit status on all ranks.
#include <chrono>
#include <csignal>
#include <new>
#include <string>
#include <system_error>
#include <thread>

#include "core/base/error.h"
#include "core/base/log.h"
#include "dist/comm/agreement.h"
#include "launch/commands/cli.h"
#include "launch/program/signals.h"
#include "launch/program/standard_streams.h"
#include "launch/program/wait_policy.h"

namespace {

using muonp::launch::Context;
using muonp::launch::Session;

// An error of the command line or a file is met by all ranks at once, before MPI is there: rank 0 reports it,
// and another rank speaks up only if rank 0 has not ended the run within this time.
constexpr std::chrono::seconds kLetRankZeroSpeak(2);

int end_with(const std::string& message, int status, Session& session) {
  if (session.mpi() != nullptr && session.world_size() > 1) session.mpi()->abort_all(message, status);
  const muonp::launch::LaunchedAs launched = muonp::launch::launched_as();
  if (launched.rank != 0) std::this_thread::sleep_for(kLetRankZeroSpeak);
  muonp::core::Log(launched.rank, launched.size).error(message);
  return status;
}

// All ranks are here with the same message, and meet once more before they end.
int end_agreed(const std::string& message, Session& session) {
  if (session.rank() == 0) muonp::core::Log(0, 1).error(message);
  try {
    session.close();
  } catch (const std::exception& error) {
    return end_with(error.what(), muonp::launch::kStatusError, session);
  }
  return muonp::launch::kStatusError;
}

int run(int argc, char** argv) {
  Context context;
  Session session;
  try {
    const muonp::launch::SignalThread signal_thread;
    if (const auto status = muonp::launch::parse_command_line(argc, argv, context)) return *status;
    session.open(context.session);
    const int status = context.run(session);
    session.close();
    return status;
  } catch (const muonp::dist::AgreedError& error) {
    return end_agreed(error.what(), session);
  } catch (const muonp::launch::Interrupted& stop) {
    return end_with(stop.what(), muonp::launch::kStatusOfSignal + stop.signal(), session);
  } catch (const muonp::core::Error& error) {
    return end_with(error.what(), muonp::launch::kStatusError, session);
  } catch (const std::exception& error) {
    const std::string refusal = muonp::core::system_refusal(error);
    if (!refusal.empty()) return end_with(refusal, muonp::launch::kStatusError, session);
    const std::string message = std::string("this is a defect of muonp: ") + error.what();
    return end_with(message, muonp::launch::kStatusInternal, session);
  }
}

}  // namespace

int main(int argc, char** argv) {
  muonp::launch::open_standard_streams();
  muonp::launch::bound_waiting(argv);
  std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit is then an error of the write, with a message
  const int status = run(argc, argv);
  if (status != 0) return status;
  const std::string problem = muonp::launch::output_problem();
  if (problem.empty()) return 0;
  const muonp::launch::LaunchedAs launched = muonp::launch::launched_as();
  muonp::core::Log(launched.rank, launched.size).error(problem);
  return muonp::launch::kStatusError;
}
