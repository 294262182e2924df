#include "core/files/files.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <thread>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/files/mapped_file.h"
#include "tests/support/temporary_folder.h"

using namespace muonp::core;
using namespace muonp::test;
using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
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
  for (std::size_t at = 0; at < content.size(); at += 70'000) file.write(std::string_view(content).substr(at, 70'000));
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
  EXPECT_THAT(error_of([&] { AtomicFile(folder / "missing/a"); }), HasSubstr("missing/a: No such file"));
  EXPECT_THAT(error_of([&] { AtomicFile file(folder.path()); }), HasSubstr("it is a folder"));
  EXPECT_THAT(error_of([&] { read_file(folder / "none"); }), HasSubstr("none: No such file"));
  EXPECT_THAT(error_of([&] { read_file(folder.path()); }), HasSubstr("it is a folder"));
  EXPECT_THAT(error_of([&] { list_directory(folder / "none"); }), HasSubstr("cannot list"));
  put(folder / "file", "x");
  EXPECT_THAT(error_of([&] { make_directories(folder / "file/below"); }), HasSubstr("cannot make the folder"));
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
  EXPECT_THAT(error_of([&] { write_file(path, std::string(2'000'000, 'x')); }), HasSubstr("No space left on device"));
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
    EXPECT_THAT(error_of([&] { AtomicFile(folder / "a", 200'000); }), HasSubstr("200000 bytes needed): File too large"));
    EXPECT_THAT(error_of([&] {
                  AtomicFile file(folder / "a");
                  for (int i = 0; i < 30; ++i) file.write(std::string(10'000, 'x'));
                }),
                HasSubstr("110000 bytes needed): File too large"));
  }
  EXPECT_EQ(get(folder / "a"), "precious");
  EXPECT_EQ(entries_in(folder.path()), 1);
}

// Bytes needed and free are no part of a message about something else.
TEST(AtomicFile, OnlyAFullDiskSpeaksOfBytes) {
  const TemporaryFolder folder;
  ::chmod(folder.path().c_str(), 0555);
  const uid_t user = ::geteuid();
  if (user == 0 && ::seteuid(65534) != 0) GTEST_SKIP() << "root may write everywhere and cannot become another user here";
  const std::string message = error_of([&] { write_file(folder / "a", "x"); });
  ASSERT_EQ(::seteuid(user), 0);
  EXPECT_THAT(message, EndsWith("a: Permission denied"));
}

TEST(AtomicFile, FollowsLinks) {
  const TemporaryFolder folder;
  make_directories(folder / "elsewhere");
  put(folder / "elsewhere/real", "old");
  for (const auto& [link, to] : {std::pair{"direct", "elsewhere/real"}, {"second", "direct"}, {"new", "elsewhere/none"}}) {
    std::filesystem::create_symlink(to, folder / link);
    AtomicFile file(folder / link);
    file.write(link);
    EXPECT_EQ(entries_in(folder / "elsewhere"), 2) << "the temporary is beside what is replaced";
    file.commit();
    EXPECT_TRUE(std::filesystem::is_symlink(folder / link)) << link;
    EXPECT_EQ(get(folder / link), link);
  }
  EXPECT_EQ(get(folder / "elsewhere/real"), "second");
  EXPECT_EQ(get(folder / "elsewhere/none"), "new");
  EXPECT_EQ(entries_in(folder / "elsewhere"), 2);
  std::filesystem::create_symlink("circle", folder / "circle");
  EXPECT_THAT(error_of([&] { write_file(folder / "circle", "x"); }), HasSubstr("circle: its links lead in a circle"));
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "circle"));
}

TEST(AtomicFile, AFifoIsWrittenTo) {
  const TemporaryFolder folder;
  const std::string path = folder / "fifo";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  std::string got;
  std::thread reader([&] { got = get(path); });
  AtomicFile file(path, 100);
  file.write("1234567890");
  file.patch(2, "xx", 2);
  const FileSummary summary = file.commit();
  reader.join();
  EXPECT_EQ(got, "12xx567890");
  EXPECT_EQ(summary.checksum, hash_bytes("12xx567890", 10));
  EXPECT_TRUE(std::filesystem::is_fifo(path));
  EXPECT_EQ(entries_in(folder.path()), 1);
}

// A terminal of its own stands for all devices.
TEST(AtomicFile, ADeviceStaysADevice) {
  int master = -1, slave = -1;
  char name[64] = {};
  ASSERT_EQ(::openpty(&master, &slave, name, nullptr, nullptr), 0);
  termios raw{};
  ::cfmakeraw(&raw);
  ::tcsetattr(slave, TCSANOW, &raw);
  const TemporaryFolder folder;
  std::filesystem::create_symlink(name, folder / "link");
  write_file(folder / "link", "drawn");
  char got[16] = {};
  EXPECT_EQ(::read(master, got, sizeof got), 5);
  EXPECT_STREQ(got, "drawn");
  EXPECT_TRUE(std::filesystem::is_character_file(name));
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  ::close(slave);
  ::close(master);
}

// `--svg /dev/stdout >file`: in its order with what is printed, and the file that the shell opened is not replaced.
TEST(AtomicFile, StandardOutputIsWrittenTo) {
  const TemporaryFolder folder;
  const int before = ::dup(STDOUT_FILENO), file = ::open((folder / "out").c_str(), O_WRONLY | O_CREAT, 0600);
  ::dup2(file, STDOUT_FILENO);
  EXPECT_EQ(::write(STDOUT_FILENO, "1 ", 2), 2);
  const std::string message = error_of([] { write_file("/dev/stdout", "2 "); });
  EXPECT_EQ(::write(STDOUT_FILENO, "3", 1), 1);
  ::dup2(before, STDOUT_FILENO);
  ::close(before);
  ::close(file);
  EXPECT_EQ(message, "");
  EXPECT_EQ(get(folder / "out"), "1 2 3");
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

// What would be a SIGBUS at the first byte behind the last page, and zeros up to there.
TEST(MappedFile, AFileThatIsShortenedIsAnError) {
  const TemporaryFolder folder;
  put(folder / "a", std::string(20'000, 'x'));
  put(folder / "b", std::string(20'000, 'y'));
  const MappedFile a(folder / "a"), b(folder / "b");
  a.require_whole();
  std::filesystem::resize_file(folder / "a", 19'999);
  EXPECT_EQ(a.data()[19'999], 0);
  EXPECT_THAT(error_of([&] { a.require_whole(); }),
              HasSubstr("a was shortened while it was read: it ends at byte 19999, it had 20000 bytes"));
  std::filesystem::resize_file(folder / "a", 5'000);
  EXPECT_EQ(std::count(a.data(), a.data() + a.size(), 'x'), 5'000);
  EXPECT_THAT(error_of([&] { a.require_whole(); }), HasSubstr("it ends at byte 5000, it had 20000 bytes"));
  // Grown again: what was read is not what is there now.
  std::filesystem::resize_file(folder / "a", 20'000);
  EXPECT_THAT(error_of([&] { a.require_whole(); }), HasSubstr("a cannot be read at byte 8192"));
  b.require_whole();
}

TEST(MappedFile, AFileThatIsReplacedOrGrowsIsWhole) {
  const TemporaryFolder folder;
  put(folder / "a", std::string(9'000, 'x'));
  const MappedFile a(folder / "a");
  write_file(folder / "a", "short");
  EXPECT_EQ(std::count(a.data(), a.data() + a.size(), 'x'), 9'000);
  a.require_whole();
  std::filesystem::remove(folder / "a");
  a.require_whole();
}

TEST(MappedFile, AnotherFaultEndsTheProcessAsBefore) {
  EXPECT_EXIT(
      {
        std::signal(SIGBUS, SIG_DFL);  // AddressSanitizer has a handler of its own
        const TemporaryFolder folder;
        put(folder / "a", "hello");
        const MappedFile installs_the_handler(folder / "a");
        std::raise(SIGBUS);
        std::raise(SIGBUS);
      },
      testing::KilledBySignal(SIGBUS), "");
}

TEST(MappedFile, NoPermissionIsAnError) {
  const TemporaryFolder folder;
  put(folder / "a", "hello");
  ::chmod(folder.path().c_str(), 0755);
  ::chmod((folder / "a").c_str(), 0);
  const uid_t user = ::geteuid();
  if (user == 0 && ::seteuid(65534) != 0) GTEST_SKIP() << "root may read every file and cannot become another user here";
  const std::string message = error_of([&] { MappedFile(folder / "a"); });
  ASSERT_EQ(::seteuid(user), 0);
  EXPECT_THAT(message, HasSubstr("a: Permission denied"));
}
