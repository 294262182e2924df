#include "core/files/abandoned_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/files/files.h"

namespace muonp::core {
namespace {

// Whether nobody writes it: the lock is free, and the file is still the one of that name.
void remove_if_abandoned(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) return;
  struct stat status {};
  if (::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && ::flock(descriptor, LOCK_EX | LOCK_NB) == 0)
    ::unlink(path.c_str());
  ::close(descriptor);
}

}  // namespace

void remove_abandoned_files(const std::string& folder) {
  if (!is_directory(folder)) return;
  const std::string mark = temporary_mark();
  for (const std::string& name : list_directory(folder)) {
    const std::size_t at = name.rfind(mark);
    if (at == std::string::npos || at == 0) continue;
    if (name.find_first_not_of("0123456789-", at + mark.size()) != std::string::npos) continue;
    remove_if_abandoned(folder + "/" + name);
  }
}

}  // namespace muonp::core
