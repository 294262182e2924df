#include "launch/program/standard_streams.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <system_error>

namespace muonp::launch {
namespace {

// A pipe whose reader has gone, a terminal that was closed.
bool nobody_reads() {
  pollfd output{STDOUT_FILENO, POLLOUT, 0};
  return poll(&output, 1, 0) == 1 && (output.revents & (POLLERR | POLLHUP)) != 0;
}

}  // namespace

void open_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(stream, F_GETFD) < 0 && errno == EBADF) [[maybe_unused]]
      const int opened = open("/dev/null", stream == STDIN_FILENO ? O_RDONLY : O_WRONLY);  // the lowest
  std::signal(SIGPIPE, SIG_IGN);
}

std::string output_problem() {
  const bool flushed = std::fflush(stdout) == 0;
  int code = flushed ? 0 : errno;
  if ((flushed && std::ferror(stdout) == 0) || nobody_reads()) return "";
  // The stream does not say why an earlier write failed; one more does.
  if (flushed && write(STDOUT_FILENO, "\n", 1) < 0) code = errno;
  return fmt::format("standard output cannot be written{}; what was printed is incomplete",
                     code == 0 ? "" : ": " + std::system_category().message(code));
}

}  // namespace muonp::launch
