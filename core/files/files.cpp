#include "core/files/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "core/base/error.h"
#include "core/base/hostname.h"
#include "core/files/output_target.h"

namespace muonp::core {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kBlock = std::int64_t{1} << 20;

std::string reason(int code) { return std::system_category().message(code); }

class Descriptor {
 public:
  explicit Descriptor(int value = -1) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }

 private:
  int value_;
};

class StreamingHash {
 public:
  StreamingHash() : state_(XXH3_createState()) { XXH3_64bits_reset(state_); }
  ~StreamingHash() { XXH3_freeState(state_); }
  StreamingHash(const StreamingHash&) = delete;
  StreamingHash& operator=(const StreamingHash&) = delete;
  void add(const void* data, std::int64_t bytes) { XXH3_64bits_update(state_, data, static_cast<std::size_t>(bytes)); }
  std::uint64_t value() const { return XXH3_64bits_digest(state_); }

 private:
  XXH3_state_t* state_;
};

int open_for_reading(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail("cannot read {}: {}", path, reason(errno));
  struct stat status {};
  if (::fstat(descriptor, &status) == 0 && S_ISDIR(status.st_mode)) {
    ::close(descriptor);
    fail("cannot read {}: it is a folder", path);
  }
  return descriptor;
}

// Reads up to kBlock bytes; 0 at the end.
std::int64_t read_block(int descriptor, const std::string& path, void* to) {
  while (true) {
    const ssize_t got = ::read(descriptor, to, static_cast<std::size_t>(kBlock));
    if (got >= 0) return got;
    if (errno != EINTR) fail("cannot read {}: {}", path, reason(errno));
  }
}

std::string space_left(const std::string& path) {
  struct statvfs info {};
  if (::statvfs(parent_directory(path).c_str(), &info) != 0) return "";
  return fmt::format("; {} bytes are free on its file system", static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize);
}

// How much was needed and is free is said where that is the trouble: a full disk, a quota, a limit on files.
[[noreturn]] void fail_writing(const std::string& path, const std::string& target, std::int64_t needed, int code) {
  if (code != ENOSPC && code != EDQUOT && code != EFBIG) fail("cannot write {}: {}", path, reason(code));
  fail("cannot write {} ({} bytes needed): {}{}", path, needed, reason(code), code == ENOSPC ? space_left(target) : "");
}

// A new file that is locked as long as this process has it open (core/files/abandoned_files.h); -1 and errno if there can be
// none. Between its creation and the lock it may be taken for abandoned and removed: then it is made again. File systems
// without locks do without.
int open_locked(const std::string& path) {
  for (;;) {
    const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor < 0) return descriptor;
    struct stat status {};
    ::flock(descriptor, LOCK_EX | LOCK_NB);
    if (::fstat(descriptor, &status) != 0 || status.st_nlink > 0) return descriptor;
    ::close(descriptor);
  }
}

}  // namespace

struct AtomicFile::State {
  ~State() {
    if (straight >= 0) ::close(straight);
  }
  std::string path, target, temporary;  // target: OutputTarget::path
  int descriptor = -1;
  int straight = -1;  // of what is no regular file: it gets the content of the temporary, and stays what it is
  std::int64_t expected = 0, bytes = 0;
  bool patched = false;
  StreamingHash hash;
};

AtomicFile::AtomicFile(std::string path, std::int64_t expected_bytes) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.path = std::move(path);
  s.expected = expected_bytes;
  const OutputTarget target = open_output(s.path);
  s.target = target.path;
  s.straight = target.descriptor;
  s.temporary = temporary_name(s.target);
  s.descriptor = open_locked(s.temporary);
  if (s.descriptor < 0) fail_writing(s.path, s.target, expected_bytes, errno);
  if (expected_bytes <= 0) return;
  // File systems that cannot reserve say so; there the disk fills, or not, while writing.
  if (::fallocate(s.descriptor, 0, 0, expected_bytes) != 0 && errno != EOPNOTSUPP && errno != ENOSYS) {
    const int code = errno;
    ::close(s.descriptor);
    ::unlink(s.temporary.c_str());
    fail_writing(s.path, s.target, expected_bytes, code);
  }
}

AtomicFile::~AtomicFile() {
  if (state_->descriptor >= 0) ::close(state_->descriptor);
  if (!state_->temporary.empty()) ::unlink(state_->temporary.c_str());
}

void AtomicFile::put_at(std::int64_t offset, const void* data, std::int64_t bytes) {
  const State& s = *state_;
  MUONP_ASSERT(s.descriptor >= 0, "{} is committed", s.path);
  const char* from = static_cast<const char*>(data);
  for (std::int64_t done = 0; done < bytes;) {
    const ssize_t put = ::pwrite(s.descriptor, from + done, static_cast<std::size_t>(bytes - done), offset + done);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) fail_writing(s.path, s.target, std::max(s.expected, s.bytes + bytes), put < 0 ? errno : ENOSPC);
    done += put;
  }
}

void AtomicFile::write(const void* data, std::int64_t bytes) {
  put_at(state_->bytes, data, bytes);
  state_->hash.add(data, bytes);
  state_->bytes += bytes;
}

void AtomicFile::patch(std::int64_t offset, const void* data, std::int64_t bytes) {
  State& s = *state_;
  MUONP_ASSERT(offset >= 0 && offset + bytes <= s.bytes, "[{}, {}) of {} bytes", offset, offset + bytes, s.bytes);
  put_at(offset, data, bytes);
  s.patched = true;
}

std::int64_t AtomicFile::bytes() const { return state_->bytes; }
const std::string& AtomicFile::path() const { return state_->path; }

FileSummary AtomicFile::commit() {
  State& s = *state_;
  MUONP_ASSERT(s.descriptor >= 0, "{} is committed", s.path);
  const std::int64_t needed = std::max(s.expected, s.bytes);
  if (::ftruncate(s.descriptor, s.bytes) != 0 || ::fsync(s.descriptor) != 0) fail_writing(s.path, s.target, needed, errno);
  const Descriptor lock(::dup(s.descriptor));  // holds until the file has its name
  const int descriptor = s.descriptor;
  s.descriptor = -1;
  if (::close(descriptor) != 0) fail_writing(s.path, s.target, needed, errno);
  const FileSummary summary = s.patched ? summarize_file(s.temporary) : FileSummary{s.bytes, s.hash.value()};
  if (s.straight >= 0) {
    copy_into(s.straight, s.temporary, s.path);
    ::close(std::exchange(s.straight, -1));  // who reads a pipe sees its end
  } else {
    rename_path(s.temporary, s.target);
    s.temporary.clear();
  }
  return summary;
}

std::string read_file(const std::string& path) {
  const Descriptor file(open_for_reading(path));
  std::string content;
  std::int64_t size = 0;
  while (true) {
    content.resize(static_cast<std::size_t>(size + kBlock));
    const std::int64_t got = read_block(file.get(), path, content.data() + size);
    size += got;
    if (got == 0) break;
  }
  content.resize(static_cast<std::size_t>(size));
  return content;
}

std::string read_start(const std::string& path, std::size_t most) {
  const Descriptor file(open_for_reading(path));
  std::string start(most, '\0');
  ssize_t got = 0;
  while ((got = ::pread(file.get(), start.data(), most, 0)) < 0)
    if (errno != EINTR) fail("cannot read {}: {}", path, reason(errno));
  start.resize(static_cast<std::size_t>(got));
  return start;
}

FileSummary write_file(const std::string& path, std::string_view content) {
  AtomicFile file(path, std::ssize(content));
  file.write(content);
  return file.commit();
}

FileSummary summarize_file(const std::string& path, const std::function<void(std::int64_t)>& read) {
  const Descriptor file(open_for_reading(path));
  const auto block = std::make_unique<char[]>(static_cast<std::size_t>(kBlock));
  StreamingHash hash;
  FileSummary summary;
  while (const std::int64_t got = read_block(file.get(), path, block.get())) {
    hash.add(block.get(), got);
    summary.bytes += got;
    if (read) read(summary.bytes);
  }
  summary.checksum = hash.value();
  return summary;
}

bool exists(const std::string& path) {
  std::error_code code;
  return fs::exists(path, code);
}

bool is_directory(const std::string& path) {
  std::error_code code;
  return fs::is_directory(path, code);
}

std::int64_t file_size(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) fail("cannot read {}: {}", path, reason(errno));
  if (S_ISDIR(status.st_mode)) fail("cannot read {}: it is a folder", path);
  if (!S_ISREG(status.st_mode)) fail("cannot read {}: it is no regular file", path);
  return status.st_size;
}

std::vector<std::string> list_directory(const std::string& path) {
  std::vector<std::string> names;
  std::error_code code;
  for (fs::directory_iterator entry(path, code), end; !code && entry != end; entry.increment(code))
    names.push_back(entry->path().filename().string());
  if (code) fail("cannot list {}: {}", path, code.message());
  std::sort(names.begin(), names.end());
  return names;
}

void make_directories(const std::string& path) {
  std::error_code code;
  fs::create_directories(path, code);
  if (!code && !is_directory(path)) code = std::make_error_code(std::errc::not_a_directory);
  if (code) fail("cannot make the folder {}: {}", path, code.message());
}

void remove_tree(const std::string& path) {
  std::error_code code;
  fs::remove_all(path, code);
  if (code) fail("cannot remove {}: {}", path, code.message());
}

void rename_path(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail("cannot rename {} to {}: {}", from, to, reason(errno));
  sync_directory(parent_directory(to));
}

void sync_directory(const std::string& path) {
  const Descriptor folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some network file systems cannot sync a folder and answer EINVAL; their renames are durable on the
  // server.
  if (folder.get() < 0 || (::fsync(folder.get()) != 0 && errno != EINVAL))
    fail("cannot make the folder {} durable: {}", path, reason(errno));
}

std::string parent_directory(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

std::string temporary_mark() { return fmt::format(".tmp-{}-", hostname()); }

std::string temporary_name(const std::string& path) {
  static std::atomic<std::uint64_t> calls{0};
  return fmt::format("{}{}{}-{}", path, temporary_mark(), ::getpid(), calls.fetch_add(1));
}

}  // namespace muonp::core
