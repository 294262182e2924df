#include "core/files/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <system_error>
#include <utility>

#include "core/base/error.h"
#include "core/files/files.h"

namespace muonp::core {

// What the signal handler knows of a mapping. It reads the list without a lock, so that entries stay, and are used again.
struct Mapping {
  std::atomic<std::uintptr_t> begin{0}, end{0};  // addresses; equal in an entry that nobody uses
  std::atomic<std::int64_t> lost{-1};            // the first byte that could not be read; -1 for none
  Mapping* next = nullptr;
};

namespace {

std::atomic<Mapping*> all_mappings{nullptr};
std::mutex entries_mutex;
struct sigaction handler_before;
std::uintptr_t page_bytes = 0;

void note_lost(Mapping& mapping, std::int64_t byte) {
  std::int64_t first = mapping.lost.load();
  while ((first < 0 || byte < first) && !mapping.lost.compare_exchange_weak(first, byte)) {
  }
}

// Zeros from the page that faulted to the end of its mapping: the thread goes on there.
bool put_zeros(std::uintptr_t address) {
  for (Mapping* m = all_mappings.load(); m != nullptr; m = m->next) {
    const std::uintptr_t begin = m->begin.load(), end = m->end.load();
    if (address < begin || address >= end) continue;
    const std::uintptr_t page = address / page_bytes * page_bytes;
    note_lost(*m, static_cast<std::int64_t>(page - begin));
    return ::mmap(reinterpret_cast<void*>(page), end - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
           MAP_FAILED;
  }
  return false;
}

void on_bus_error(int, siginfo_t* info, void*) {
  const int code = errno;
  // Where the handler before is to have it, it comes again.
  if (!put_zeros(reinterpret_cast<std::uintptr_t>(info->si_addr))) ::sigaction(SIGBUS, &handler_before, nullptr);
  errno = code;
}

void install_handler() {
  static std::once_flag once;
  std::call_once(once, [] {
    page_bytes = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGBUS, &action, &handler_before);
  });
}

Mapping* enter(const void* begin, std::int64_t bytes) {
  install_handler();
  const std::lock_guard lock(entries_mutex);
  Mapping* entry = all_mappings.load();
  while (entry != nullptr && entry->begin.load() != entry->end.load()) entry = entry->next;
  const bool added = entry == nullptr;
  if (added) entry = new Mapping;
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  entry->lost.store(-1);
  entry->end.store(address + static_cast<std::uintptr_t>(bytes));
  entry->begin.store(address);
  if (added) {
    entry->next = all_mappings.load();
    all_mappings.store(entry);
  }
  return entry;
}

void leave(Mapping& entry) {
  const std::lock_guard lock(entries_mutex);
  entry.begin.store(UINTPTR_MAX);
  entry.end.store(UINTPTR_MAX);
}

}  // namespace

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  size_ = file_size(path_);
  if (size_ == 0) fail("{} is empty", path_);
  const int descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail("cannot read {}: {}", path_, std::system_category().message(errno));
  struct stat status {};
  ::fstat(descriptor, &status);
  device_ = status.st_dev;
  inode_ = status.st_ino;
  void* mapped = ::mmap(nullptr, static_cast<std::size_t>(size_), PROT_READ, MAP_SHARED, descriptor, 0);
  const int code = errno;
  ::close(descriptor);  // the mapping keeps the file
  if (mapped == MAP_FAILED) fail("cannot map {} into memory: {}", path_, std::system_category().message(code));
  data_ = static_cast<const char*>(mapped);
  mapping_ = enter(mapped, size_);
}

MappedFile::~MappedFile() { unmap(); }

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      device_(other.device_),
      inode_(other.inode_),
      mapping_(std::exchange(other.mapping_, nullptr)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this == &other) return *this;
  unmap();
  path_ = std::move(other.path_);
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  device_ = other.device_;
  inode_ = other.inode_;
  mapping_ = std::exchange(other.mapping_, nullptr);
  return *this;
}

void MappedFile::require_whole() const {
  if (mapping_ == nullptr) return;
  const std::int64_t lost = mapping_->lost.load();
  // Up to the end of the page in which a shortened file ends, the system itself gives zeros, without a fault.
  struct stat status {};
  const bool same = ::stat(path_.c_str(), &status) == 0 && status.st_dev == device_ && status.st_ino == inode_;
  if (same && status.st_size < size_)
    fail("{} was shortened while it was read: it ends at byte {}, it had {} bytes", path_, status.st_size, size_);
  if (lost >= 0) fail("{} cannot be read at byte {}: the file was shortened, or its disk failed", path_, lost);
}

void MappedFile::release(std::int64_t begin, std::int64_t count) const {
  const auto page = static_cast<std::int64_t>(page_bytes);
  const std::int64_t first = begin / page * page;
  ::madvise(const_cast<char*>(data_) + first, static_cast<std::size_t>(begin + count - first), MADV_DONTNEED);
}

void MappedFile::unmap() noexcept {
  if (data_ == nullptr) return;
  leave(*mapping_);
  ::munmap(const_cast<char*>(data_), static_cast<std::size_t>(size_));
  data_ = nullptr;
}

}  // namespace muonp::core
