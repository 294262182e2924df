#include "core/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "core/error.h"
#include "core/hash.h"
#include "core/mapped_file.h"
#include "temporary_folder.h"

using namespace muonp::core;
using namespace muonp::test;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

std::string error_of(const std::function<void()>& f) { return message_of<Error>(f); }

// A file system of one MiB; empty path and a reason if this process may not mount one.
class TinyFileSystem {
 public:
  TinyFileSystem() {
    if (::mount("tmpfs", folder_.path().c_str(), "tmpfs", 0, "size=1m") != 0)
      refusal_ = std::string("a tmpfs cannot be mounted here: ") + std::strerror(errno);
  }
  ~TinyFileSystem() {
    if (refusal_.empty()) ::umount(folder_.path().c_str());
  }
  const std::string& path() const { return folder_.path(); }
  const std::string& refusal() const { return refusal_; }

 private:
  TemporaryFolder folder_;
  std::string refusal_;
};

// Files of this process may not grow beyond `bytes`: writing fails as it does on a full disk, with another
// errno.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

}  // namespace

TEST(AtomicFile, AppearsOnlyWithCommit) {
  const TemporaryFolder folder;
  put(folder / "a", "old");
  {
    AtomicFile file(folder / "a");
    file.write("new ");
    file.write("content");
    EXPECT_EQ(get(folder / "a"), "old");
    const FileSummary summary = file.commit();
    EXPECT_EQ(summary.bytes, 11);
    EXPECT_EQ(summary.checksum, hash_bytes("new content", 11));
  }
  EXPECT_EQ(get(folder / "a"), "new content");
  { AtomicFile(folder / "a").write("lost"); }
  EXPECT_EQ(get(folder / "a"), "new content");
  EXPECT_EQ(entries_in(folder.path()), 1);
}

TEST(AtomicFile, ChecksumIsOfTheWholeContent) {
  const TemporaryFolder folder;
  std::string content(3'000'001, 'x');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 2654435761u >> 13);
  AtomicFile file(folder / "a", 5'000'000);  // more than needed: the reserved rest is given back
  for (std::size_t at = 0; at < content.size(); at += 70'000)
    file.write(std::string_view(content).substr(at, 70'000));
  file.patch(12, "PATCH", 5);
  content.replace(12, 5, "PATCH");
  const FileSummary summary = file.commit();
  EXPECT_EQ(get(folder / "a"), content);
  EXPECT_EQ(summary.bytes, 3'000'001);
  EXPECT_EQ(summary.checksum, hash_bytes(content.data(), 3'000'001));
  EXPECT_EQ(summarize_file(folder / "a").checksum, summary.checksum);
  EXPECT_EQ(read_file(folder / "a"), content);
}

TEST(AtomicFile, BadPathsAreErrors) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { AtomicFile(folder / "missing/a"); }),
              HasSubstr("missing/a (0 bytes needed): No such file"));
  EXPECT_THAT(error_of([&] { AtomicFile file(folder.path()); }), HasSubstr("it is a folder"));
  EXPECT_THAT(error_of([&] { read_file(folder / "none"); }), HasSubstr("none: No such file"));
  EXPECT_THAT(error_of([&] { read_file(folder.path()); }), HasSubstr("it is a folder"));
  EXPECT_THAT(error_of([&] { list_directory(folder / "none"); }), HasSubstr("cannot list"));
  put(folder / "file", "x");
  EXPECT_THAT(error_of([&] { make_directories(folder / "file/below"); }),
              HasSubstr("cannot make the folder"));
}

TEST(AtomicFile, FullDiskIsFoundBeforeWritingAndKeepsWhatWasThere) {
  const TinyFileSystem tiny;
  if (!tiny.refusal().empty()) GTEST_SKIP() << tiny.refusal();
  const std::string path = tiny.path() + "/a";
  put(path, "precious");
  EXPECT_THAT(error_of([&] { AtomicFile(path, 3'000'000); }),
              AllOf(HasSubstr(path + " (3000000 bytes needed): No space left on device"),
                    HasSubstr("bytes are free on its file system")));
  EXPECT_EQ(get(path), "precious");
  EXPECT_EQ(entries_in(tiny.path()), 1);
}

TEST(AtomicFile, FullDiskWhileWritingKeepsWhatWasThere) {
  const TinyFileSystem tiny;
  if (!tiny.refusal().empty()) GTEST_SKIP() << tiny.refusal();
  const std::string path = tiny.path() + "/a";
  put(path, "precious");
  EXPECT_THAT(error_of([&] { write_file(path, std::string(2'000'000, 'x')); }),
              HasSubstr("No space left on device"));
  EXPECT_THAT(error_of([&] {
                AtomicFile file(path);
                for (int i = 0; i < 100; ++i) file.write(std::string(100'000, 'x'));
              }),
              HasSubstr("No space left on device"));
  EXPECT_EQ(get(path), "precious");
  EXPECT_EQ(entries_in(tiny.path()), 1);
  write_file(path, std::string(900'000, 'y'));  // nothing was leaked: the space is there
}

TEST(AtomicFile, FailedWriteKeepsWhatWasThere) {
  const TemporaryFolder folder;
  put(folder / "a", "precious");
  {
    const FileSizeLimit limit(100'000);
    EXPECT_THAT(error_of([&] { AtomicFile(folder / "a", 200'000); }),
                HasSubstr("200000 bytes needed): File too large"));
    EXPECT_THAT(error_of([&] {
                  AtomicFile file(folder / "a");
                  for (int i = 0; i < 30; ++i) file.write(std::string(10'000, 'x'));
                }),
                HasSubstr("110000 bytes needed): File too large"));
  }
  EXPECT_EQ(get(folder / "a"), "precious");
  EXPECT_EQ(entries_in(folder.path()), 1);
}

TEST(Files, ListsAndRemoves) {
  const TemporaryFolder folder;
  make_directories(folder / "b/c");
  put(folder / "b/c/2", "");
  put(folder / "b/1", "");
  put(folder / "a", "");
  put(folder / ".hidden", "");
  EXPECT_THAT(list_directory(folder.path()), ElementsAre(".hidden", "a", "b"));
  remove_tree(folder / "b");
  remove_tree(folder / "b");
  EXPECT_FALSE(exists(folder / "b"));
  EXPECT_EQ(parent_directory("x/y"), "x");
  EXPECT_EQ(parent_directory("x"), ".");
  EXPECT_NE(temporary_name("x"), temporary_name("x"));
}

TEST(MappedFile, MapsAndRefuses) {
  const TemporaryFolder folder;
  put(folder / "a", "hello");
  put(folder / "empty", "");
  MappedFile a(folder / "a");
  const MappedFile moved = std::move(a);
  EXPECT_EQ(std::string_view(moved.data(), static_cast<std::size_t>(moved.size())), "hello");
  EXPECT_THAT(error_of([&] { MappedFile(folder / "none"); }), HasSubstr("none: No such file"));
  EXPECT_THAT(error_of([&] { MappedFile(folder.path()); }), HasSubstr("it is a folder"));
  EXPECT_THAT(error_of([&] { MappedFile(folder / "empty"); }), HasSubstr("empty is empty"));
  EXPECT_THAT(error_of([&] { MappedFile("/dev/null"); }), HasSubstr("no regular file"));
}

TEST(MappedFile, NoPermissionIsAnError) {
  const TemporaryFolder folder;
  put(folder / "a", "hello");
  ::chmod(folder.path().c_str(), 0755);
  ::chmod((folder / "a").c_str(), 0);
  const uid_t user = ::geteuid();
  if (user == 0 && ::seteuid(65534) != 0)
    GTEST_SKIP() << "root may read every file and cannot become another user here";
  const std::string message = error_of([&] { MappedFile(folder / "a"); });
  ASSERT_EQ(::seteuid(user), 0);
  EXPECT_THAT(message, HasSubstr("a: Permission denied"));
}
