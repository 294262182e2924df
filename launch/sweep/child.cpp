#include "launch/sweep/child.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "core/base/error.h"

extern char** environ;

namespace muonp::launch {
namespace {

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (std::string& text : texts) all.push_back(text.data());
  all.push_back(nullptr);
  return all;
}

std::vector<std::string> merged_environment(const std::vector<std::string>& above) {
  std::vector<std::string> all = above;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string text = *variable;
    const std::string name = text.substr(0, text.find('=') + 1);
    bool replaced = false;
    for (const std::string& other : above) replaced = replaced || other.starts_with(name);
    if (!replaced) all.push_back(text);
  }
  return all;
}

int wait_for(pid_t process, int& status, int options) {
  int got = 0;
  do got = ::waitpid(process, &status, options);
  while (got < 0 && errno == EINTR);
  return got;
}

// Between fork and exec nothing may be called that takes memory or a lock: other threads were not copied. Returns only where
// the program could not be started.
void become(char** words, char** environment, int log, pid_t parent) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(1);
  const int nothing = ::open("/dev/null", O_RDONLY);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);  // this program keeps signals from its own threads
  ::execvpe(words[0], words, environment);
}

}  // namespace

Child::Child(const Command& command) {
  std::vector<std::string> words = command.words, environment = merged_environment(command.environment);
  const std::vector<char*> argv = pointers(words), envp = pointers(environment);
  const int log = ::open(command.log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (log < 0) core::fail("{}: cannot be written: {}", command.log, std::strerror(errno));
  int report[2];  // closed by a program that has started, else the reason
  if (::pipe2(report, O_CLOEXEC) != 0) core::fail("{} cannot be started: {}", words[0], std::strerror(errno));
  const pid_t parent = ::getpid();
  process_ = ::fork();
  if (process_ == 0) {
    become(const_cast<char**>(argv.data()), const_cast<char**>(envp.data()), log, parent);
    const int code = errno;
    [[maybe_unused]] const auto written = ::write(report[1], &code, sizeof code);
    ::_exit(127);
  }
  int code = process_ < 0 ? errno : 0;
  ::close(log);
  ::close(report[1]);
  if (process_ > 0) {
    while (::read(report[0], &code, sizeof code) < 0 && errno == EINTR) {
    }
  }
  ::close(report[0]);
  if (code == 0) return;
  int ignored = 0;
  if (process_ > 0) wait_for(process_, ignored, 0);
  core::fail("{} cannot be started: {}", words[0], std::strerror(code));
}

Child::~Child() {
  if (status_) return;
  ask_to_stop();
  int ignored = 0;
  wait_for(process_, ignored, 0);
}

std::optional<int> Child::status() {
  int status = 0;
  if (!status_ && wait_for(process_, status, WNOHANG) == process_)
    status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return status_;
}

void Child::ask_to_stop() {
  if (status() || asked_) return;
  asked_ = true;
  ::kill(process_, SIGTERM);
}

}  // namespace muonp::launch
