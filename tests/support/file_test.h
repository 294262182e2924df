// For tests that write files: each has a folder of its own, and a disk that is full where it wants one.
#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <string>

#include "tests/support/temporary_folder.h"

namespace muonp::test {

class FileTest : public ::testing::Test {
 protected:
  const std::string& folder() const { return folder_.path(); }
  std::string path(const std::string& name) const { return folder_ / name; }
  std::string make(const std::string& name, const std::string& content) const {
    put(path(name), content);
    return path(name);
  }
  int files() const { return entries_in(folder_.path()); }

 private:
  TemporaryFolder folder_;
};

// Writing beyond `bytes` of a file fails while this lives, as it would on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit small{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  void (*handler_)(int);
  rlimit before_{};
};

}  // namespace muonp::test
