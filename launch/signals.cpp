#include "launch/signals.h"

#include <time.h>
#include <unistd.h>

#include <atomic>

#include "core/error.h"

namespace muonp::launch {
namespace {

// A signal handler can reach nothing but objects with static storage.
std::atomic<int> first_signal{0};
std::atomic<long long> first_interrupt_ms{-1};
std::atomic<bool> installed{false};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<long long>::is_always_lock_free);

// A launcher that forwards what the terminal has already sent delivers one Ctrl-C twice.
constexpr long long kSameInterruptMs = 300;

long long now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<long long>(now.tv_sec) * 1000 + now.tv_nsec / 1000000;
}

void on_signal(int number) {
  int none = 0;
  first_signal.compare_exchange_strong(none, number);
  if (number != SIGINT) return;
  long long never = -1;
  if (first_interrupt_ms.compare_exchange_strong(never, now_ms())) return;
  if (now_ms() - first_interrupt_ms.load() < kSameInterruptMs) return;
  constexpr char kMessage[] = "\nmuonp: interrupted twice; ending without saving\n";
  [[maybe_unused]] const auto written = write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
  _exit(kInterruptedStatus);
}

}  // namespace

StopSignals::StopSignals() {
  MUONP_ASSERT(!installed.exchange(true), "stop signals are handled by another object");
  first_signal = 0;
  first_interrupt_ms = -1;
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (int i = 0; i < 3; ++i) sigaction(kSignals[i], &action, &before_[i]);
}

StopSignals::~StopSignals() {
  for (int i = 0; i < 3; ++i) sigaction(kSignals[i], &before_[i], nullptr);
  installed = false;
}

bool StopSignals::requested() const { return first_signal.load() != 0; }

int StopSignals::signal() const { return first_signal.load(); }

bool stop_requested() { return installed.load() && first_signal.load() != 0; }

Interrupted::Interrupted() : core::Error("stopped on request") {}

const char* StopSignals::name() const {
  switch (signal()) {
    case SIGINT:
      return "SIGINT";
    case SIGTERM:
      return "SIGTERM";
    case SIGUSR1:
      return "SIGUSR1";
    default:
      return "";
  }
}

}  // namespace muonp::launch
