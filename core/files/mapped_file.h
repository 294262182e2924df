// A file mapped into memory, read-only. Pages come in when they are touched and may be dropped again by the
// system, so that mapping a file costs no memory of its own.
//
// A file that is shortened while it is mapped, or whose disk fails, would end the process where it is read (SIGBUS). The
// first mapping installs a handler that puts zeros in the place of what is gone; whoever reads asks afterwards, by
// require_whole(), whether what was read is the file's. Faults elsewhere go to the handler before.
#pragma once

#include <cstdint>
#include <string>

namespace muonp::core {

class MappedFile {
 public:
  // Error: missing, a folder, no permission, empty.
  explicit MappedFile(std::string path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  const char* data() const { return data_; }
  std::int64_t size() const { return size_; }  // bytes
  const std::string& path() const { return path_; }

  // After reading, from any thread. Error, with the file, the byte and what happened, if a part of it was gone.
  void require_whole() const;
  // After reading bytes [begin, begin + count) once: lets go of the memory that this took. The file can be read as before.
  void release(std::int64_t begin, std::int64_t count) const;

 private:
  void unmap() noexcept;
  std::string path_;
  const char* data_ = nullptr;
  std::int64_t size_ = 0;
  std::uint64_t device_ = 0, inode_ = 0;  // of the file that is mapped; another one may have taken its path since
  struct Mapping* mapping_ = nullptr;
};

}  // namespace muonp::core
