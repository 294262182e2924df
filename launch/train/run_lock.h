// A run's folder is held by one run at a time: <folder>/run.lock names process, host and start time, and goes when the
// run ends. A holder of this machine that has died, however it died, is known at once (flock(2), which the system gives up
// with the process; /proc where the file system has no flock). One of another host is watched: the holder touches the file
// every few seconds, and where that does not happen for `patience_seconds`, it is taken for dead.
//
// A run that could not start leaves no empty folder: one that was made for the lock goes with it, if nothing else is there.
#pragma once

#include <functional>
#include <string>
#include <thread>

namespace muonp::launch {

class RunLock {
 public:
  static constexpr double kPatience = 30;  // seconds
  using Say = std::function<void(const std::string&)>;

  // Makes the folder. Error if another run holds it; names the holder. `say` gets a line where the folder of a run that
  // died is taken over, or its holder is watched. Rank 0, before anything in the folder is touched.
  // `choice`: the setting by which another folder is chosen.
  RunLock(const std::string& folder, const Say& say, double patience_seconds = kPatience, std::string choice = "run.name");
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  // Whether a run holds the folder now; for whoever only looks.
  static bool holds(const std::string& folder);

  // Error if another run has taken the folder over: this process was stopped for longer than the other's patience. Called
  // before anything of value in the folder is changed.
  void require() const;

  // Whether a process of this machine holds the folder now, as far as its file system can say.
  static bool is_held(const std::string& folder);

 private:
  struct File {
    ~File();
    int descriptor = -1;
    bool flocked = false;
  };
  [[noreturn]] void refuse() const;
  void outlive(const Say& say, double patience_seconds) const;
  void write_name() const;
  void touch_now_and_then(const std::stop_token& stop) const;

  std::string folder_, path_, choice_, mine_;  // mine_: the file's text
  bool made_folder_ = false;
  File file_;
  std::jthread beat_;
};

}  // namespace muonp::launch
