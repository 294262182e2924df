#include "launch/program/signals.h"

#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>

#include "core/base/error.h"

namespace muonp::launch {
namespace {

// A signal handler can reach nothing but objects with static storage.
std::atomic<int> first_signal{0};
std::atomic<long long> first_interrupt_ms{-1};
std::atomic<bool> installed{false};
std::atomic<bool> answers{false};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<long long>::is_always_lock_free);

// A launcher that forwards what the terminal has already sent delivers one Ctrl-C twice.
constexpr long long kSameInterruptMs = 300;

long long now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<long long>(now.tv_sec) * 1000 + now.tv_nsec / 1000000;
}

const char* name_of(int number) {
  switch (number) {
    case SIGINT:
      return "SIGINT";
    case SIGTERM:
      return "SIGTERM";
    case SIGUSR1:
      return "SIGUSR1";
    case SIGHUP:
      return "SIGHUP";
    default:
      return "";
  }
}

// As one message: the ranks' lines go through pipes.
void answer(int number) {
  char text[96] = "muonp: ";
  std::strcat(text, name_of(number));
  std::strcat(text, ": the run ends after the step under way\n");
  [[maybe_unused]] const auto written = write(STDERR_FILENO, text, std::strlen(text));
}

void on_signal(int number) {
  const int code = errno;
  int none = 0;
  if (first_signal.compare_exchange_strong(none, number) && answers) answer(number);
  errno = code;
  if (number != SIGINT) return;
  long long never = -1;
  if (first_interrupt_ms.compare_exchange_strong(never, now_ms())) return;
  if (now_ms() - first_interrupt_ms.load() < kSameInterruptMs) return;
  constexpr char kMessage[] = "\nmuonp: interrupted twice; ending at once\n";
  [[maybe_unused]] const auto written = write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
  _exit(kInterruptedStatus);
}

}  // namespace

SignalThread::SignalThread()
    : thread_([](const std::stop_token& stop) {
        std::mutex mutex;
        std::unique_lock lock(mutex);
        std::condition_variable_any().wait(lock, stop, [] { return false; });
      }) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : kStopSignals) sigaddset(&signals, number);
  pthread_sigmask(SIG_BLOCK, &signals, &before_);
}

SignalThread::~SignalThread() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

StopSignals::StopSignals(bool speaks) {
  MUONP_ASSERT(!installed.exchange(true), "stop signals are handled by another object");
  first_signal = 0;
  first_interrupt_ms = -1;
  answers = speaks;
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < std::size(kStopSignals); ++i) {
    sigaction(kStopSignals[i], nullptr, &before_[i]);
    const bool left_alone = kStopSignals[i] == SIGHUP && before_[i].sa_handler == SIG_IGN;
    if (!left_alone) sigaction(kStopSignals[i], &action, nullptr);
  }
}

StopSignals::~StopSignals() {
  for (std::size_t i = 0; i < std::size(kStopSignals); ++i) {
    if (before_[i].sa_handler != SIG_DFL) sigaction(kStopSignals[i], &before_[i], nullptr);
  }
  answers = false;
  installed = false;
}

bool StopSignals::requested() const { return first_signal.load() != 0; }

int StopSignals::signal() const { return first_signal.load(); }

const char* StopSignals::name() const { return name_of(signal()); }

bool stop_requested() { return installed.load() && first_signal.load() != 0; }

Interrupted::Interrupted(const std::string& left)
    : core::Error(fmt::format("stopped by {}{}{}", stop_requested() ? name_of(first_signal) : "another rank",
                              left.empty() ? "" : "; ", left)),
      signal_(stop_requested() ? first_signal.load() : 0) {}

void require_no_stop(const std::string& left) {
  if (stop_requested()) throw Interrupted(left);
}

}  // namespace muonp::launch
