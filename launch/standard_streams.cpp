#include "launch/standard_streams.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <system_error>

namespace muonp::launch {
namespace {

bool nobody_reads(int code) {
  return code == EPIPE || (code == EIO && isatty(STDOUT_FILENO) == 0 && errno == EIO);  // isatty's errno
}

}  // namespace

void open_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(stream, F_GETFD) < 0 && errno == EBADF)
      [[maybe_unused]] const int opened = open("/dev/null", stream == STDIN_FILENO ? O_RDONLY : O_WRONLY);  // the lowest
  std::signal(SIGPIPE, SIG_IGN);
}

std::string output_problem() {
  const bool lost = std::ferror(stdout) != 0;
  errno = 0;
  const int code = std::fflush(stdout) != 0 ? errno : 0;
  if (nobody_reads(code) || (code == 0 && !lost)) return "";
  return fmt::format("standard output cannot be written{}; what was printed is incomplete",
                     code == 0 ? "" : ": " + std::system_category().message(code));
}

}  // namespace muonp::launch
