#include "core/files/output_target.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "core/base/error.h"
#include "core/files/files.h"
#include "core/files/mapped_file.h"

namespace muonp::core {
namespace {

namespace fs = std::filesystem;

constexpr int kMostLinks = 40;  // as the system

std::string end_of_links(const std::string& path) {
  fs::path end = path;
  std::error_code code;
  for (int links = 0; fs::is_symlink(fs::symlink_status(end, code)); ++links) {
    if (links == kMostLinks) fail("cannot write {}: its links lead in a circle", path);
    const fs::path next = fs::read_symlink(end, code);
    if (code) fail("cannot write {}: {}", path, code.message());
    end = end.parent_path() / next;
  }
  return end.string();
}

std::string reason(int code) { return std::system_category().message(code); }

std::string temporary_path() {
  std::error_code code;
  const fs::path folder = fs::temp_directory_path(code);
  if (code) fail("there is no folder for temporary files (TMPDIR): {}", code.message());
  return (folder / "muonp-output").string();
}

// A descriptor of the file if it is this process's standard output or error, else -1.
int standard_stream(const struct stat& file) {
  for (const int stream : {STDOUT_FILENO, STDERR_FILENO}) {
    struct stat status {};
    if (::fstat(stream, &status) == 0 && status.st_dev == file.st_dev && status.st_ino == file.st_ino)
      return ::fcntl(stream, F_DUPFD_CLOEXEC, 0);
  }
  return -1;
}

}  // namespace

OutputTarget open_output(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return {end_of_links(path), -1};
  if (S_ISDIR(status.st_mode)) fail("cannot write {}: it is a folder", path);
  if (const int stream = standard_stream(status); stream >= 0) return {temporary_path(), stream};
  if (S_ISREG(status.st_mode)) return {end_of_links(path), -1};
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_NOCTTY | O_CLOEXEC);
  if (descriptor < 0) fail("cannot write {}: {}", path, reason(errno));
  return {temporary_path(), descriptor};
}

void copy_into(int descriptor, const std::string& file, const std::string& path) {
  if (file_size(file) == 0) return;
  const MappedFile content(file);
  for (std::int64_t done = 0; done < content.size();) {
    const auto rest = static_cast<std::size_t>(content.size() - done);
    const ssize_t put = ::write(descriptor, content.data() + done, rest);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail("cannot write {}: {}", path, reason(errno));
    done += put;
  }
  content.require_whole();
}

}  // namespace muonp::core
