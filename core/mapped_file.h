// A file mapped into memory, read-only. Pages come in when they are touched and may be dropped again by the
// system, so that mapping a file costs no memory of its own.
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

 private:
  void unmap() noexcept;
  std::string path_;
  const char* data_ = nullptr;
  std::int64_t size_ = 0;
};

}  // namespace muonp::core
