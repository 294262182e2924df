#include "launch/train/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <ctime>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <utility>

#include "core/base/error.h"
#include "core/base/hostname.h"
#include "core/files/files.h"
#include "launch/report/time_text.h"

namespace muonp::launch {

namespace {

using nlohmann::json;
using std::chrono::milliseconds, std::chrono::seconds, std::chrono::steady_clock;

constexpr seconds kBeat(4);
constexpr milliseconds kPause(50);
// For a holder that is just ending, or about to write its name.
constexpr seconds kGrace(2);

struct Holder {
  std::string host, boot, since;
  std::int64_t process = 0, born = 0;  // born: clock ticks from the machine's start to the process's
  std::string text() const { return fmt::format("process {} on {}, since {}", process, host, since); }
};

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Field 22 of /proc/<pid>/stat, counted from behind the name, which may hold anything; 0 if there is no such process.
std::int64_t born(std::int64_t process) {
  const std::string stat = first_line(fmt::format("/proc/{}/stat", process));
  const std::size_t name_end = stat.rfind(") ");
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(stat.substr(name_end + 2));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  return std::atoll(field.c_str());
}

Holder myself() {
  return {core::hostname(), first_line("/proc/sys/kernel/random/boot_id"), time_text(), ::getpid(), born(::getpid())};
}

std::string to_text(const Holder& h) {
  const json j = {{"process", h.process}, {"host", h.host}, {"since", h.since}, {"boot", h.boot}, {"born", h.born}};
  return j.dump() + "\n";
}

// Nothing of a text that a machine's end cut short.
std::optional<Holder> holder_in(const std::string& text) {
  const json j = json::parse(text, nullptr, false);
  if (!j.is_object()) return {};
  try {
    return Holder{j.at("host"), j.at("boot"), j.at("since"), j.at("process"), j.at("born")};
  } catch (const json::exception&) {
    return {};
  }
}

[[noreturn]] void fail_on(const std::string& path) {
  core::fail("cannot hold the run's folder by {}: {}", path, std::strerror(errno));
}

std::string text_at(const std::string& path) { return core::exists(path) ? core::read_file(path) : ""; }

// What changes when the holder is alive. The file is opened anew, so that a network file system asks its server.
std::string state_of(const std::string& path) {
  const std::string text = text_at(path);
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return "";
  return fmt::format("{}.{} {}", status.st_mtim.tv_sec, status.st_mtim.tv_nsec, text);
}

enum class Flock : std::uint8_t { held, elsewhere, unknown };  // by us, by another process, the file system has none

Flock try_flock(int file, const std::string& path) {
  if (::flock(file, LOCK_EX | LOCK_NB) == 0) return Flock::held;
  if (errno == EWOULDBLOCK) return Flock::elsewhere;
  if (errno == ENOLCK || errno == ENOSYS || errno == EOPNOTSUPP || errno == EINVAL) return Flock::unknown;
  fail_on(path);
}

bool is_file_at(int file, const std::string& path) {
  struct stat ours {
  }, named{};
  return ::fstat(file, &ours) == 0 && ::stat(path.c_str(), &named) == 0 && ours.st_ino == named.st_ino &&
         ours.st_dev == named.st_dev;
}

// Opens the file under the name `path`, which another run may be removing, with its folder. False if another process holds
// it, and goes on to do so for the grace that one that is ending has.
bool open_and_flock(const std::string& folder, const std::string& path, int& descriptor, bool& flocked) {
  const auto end = steady_clock::now() + kGrace;
  for (;;) {
    core::make_directories(folder);
    descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor < 0 && errno == ENOENT && steady_clock::now() < end) continue;
    if (descriptor < 0) fail_on(path);
    const Flock flock = try_flock(descriptor, path);
    flocked = flock == Flock::held;
    if (flock == Flock::elsewhere && steady_clock::now() > end) return false;
    if (flock != Flock::elsewhere && is_file_at(descriptor, path)) return true;
    ::close(std::exchange(descriptor, -1));
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace

RunLock::File::~File() {
  if (descriptor >= 0) ::close(descriptor);
}

RunLock::RunLock(const std::string& folder, const Say& say, double patience_seconds, std::string choice)
    : folder_(folder),
      path_(folder + "/run.lock"),
      choice_(std::move(choice)),
      mine_(to_text(myself())),
      made_folder_(!core::exists(folder)) {
  if (!open_and_flock(folder_, path_, file_.descriptor, file_.flocked)) refuse();
  if (!text_at(path_).empty()) outlive(say, patience_seconds);
  write_name();
  if (!file_.flocked) std::this_thread::sleep_for(kGrace);  // another that saw the folder free may write its name last
  require();
  beat_ = std::jthread([this](const std::stop_token& stop) { touch_now_and_then(stop); });
}

RunLock::~RunLock() {
  beat_ = {};
  try {
    if (text_at(path_) != mine_) return;
    ::unlink(path_.c_str());
    ::close(std::exchange(file_.descriptor, -1));  // until then a network file system keeps it in the folder
    if (made_folder_) ::rmdir(folder_.c_str());    // does nothing where something is in it
  } catch (const core::Error&) {
    // A destructor must not throw; the next run sees that this one is gone.
  }
}

bool RunLock::holds(const std::string& folder) {
  const std::string path = folder + "/run.lock";
  const File file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.descriptor < 0) return false;
  if (::flock(file.descriptor, LOCK_SH | LOCK_NB) == 0) return false;
  if (errno == EWOULDBLOCK) return true;
  struct stat status {};  // the file system has no flock: whoever holds it touches the file
  return ::fstat(file.descriptor, &status) == 0 &&
         static_cast<double>(std::time(nullptr) - status.st_mtim.tv_sec) < kPatience;
}

void RunLock::refuse() const {
  const auto holder = holder_in(text_at(path_));
  core::fail(
      "{} is in use by another run ({}): wait for its end, stop it, or choose another {}; nothing in the folder was touched",
      folder_, holder ? holder->text() : fmt::format("{} does not name it", path_), choice_);
}

bool RunLock::is_held(const std::string& folder) {
  const std::string path = folder + "/run.lock";
  File file;
  file.descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  return file.descriptor >= 0 && try_flock(file.descriptor, path) == Flock::elsewhere;
}

void RunLock::outlive(const Say& say, double patience_seconds) const {
  const auto holder = holder_in(text_at(path_));
  const Holder me = myself();
  const std::string who = holder ? holder->text() : "a run whose name is cut short";
  const bool here = holder && !me.boot.empty() && holder->boot == me.boot;
  if (here && (file_.flocked || holder->host == me.host)) {
    if (!file_.flocked && born(holder->process) == holder->born) refuse();
  } else {
    say(fmt::format("{} was held by {}; {:g} s show whether it still is.", folder_, who, patience_seconds));
    const std::string before = state_of(path_);
    const auto end = steady_clock::now() + std::chrono::duration<double>(patience_seconds);
    while (steady_clock::now() < end) {
      std::this_thread::sleep_for(kPause);
      if (state_of(path_) != before) refuse();
    }
  }
  say(fmt::format("{} is taken over from {}, which is gone.", folder_, who));
}

void RunLock::write_name() const {
  const auto bytes = static_cast<ssize_t>(mine_.size());
  if (::ftruncate(file_.descriptor, 0) != 0 || ::pwrite(file_.descriptor, mine_.data(), mine_.size(), 0) != bytes ||
      ::fsync(file_.descriptor) != 0)
    fail_on(path_);
}

void RunLock::require() const {
  const std::string text = text_at(path_);
  if (text == mine_) return;
  const auto holder = holder_in(text);
  core::fail("{} is not this run's any more ({}): {}", folder_, path_,
             holder ? holder->text() + " has taken it over" : "the file was removed or altered");
}

void RunLock::touch_now_and_then(const std::stop_token& stop) const {
  std::mutex mutex;
  std::unique_lock lock(mutex);
  std::condition_variable_any ended;
  while (!ended.wait_for(lock, stop, kBeat, [&] { return stop.stop_requested(); })) ::futimens(file_.descriptor, nullptr);
}

}  // namespace muonp::launch
