#include "tests/e2e/program.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "core/files/files.h"

namespace muonp::e2e {

namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::string temporary_folder() {
  std::string name = "/tmp/muonp-e2e-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  return name;
}

std::string read_if_there(const std::string& path) { return core::exists(path) ? core::read_file(path) : ""; }

// In a process group of its own, so that a time-out can end all of it.
int start(const std::string& command, const std::string& out, const std::string& err) {
  const int pid = fork();
  if (pid != 0) return pid;
  setpgid(0, 0);
  const auto redirect = [](const std::string& path, int fd) {
    const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(file, fd);
  };
  redirect(out, 1);
  redirect(err, 2);
  dup2(open("/dev/null", O_RDONLY), 0);
  execl("/bin/bash", "bash", "-c", command.c_str(), nullptr);
  _exit(127);
}

}  // namespace

Outcome run_shell(const std::string& command, double timeout_seconds, const std::function<void(int)>& while_running) {
  const std::string folder = temporary_folder();
  const double begin = now();
  const int pid = start(command, folder + "/out", folder + "/err");
  Outcome outcome;
  for (int status = 0;;) {
    if (waitpid(pid, &status, WNOHANG) == pid) {
      outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      break;
    }
    if (now() - begin > timeout_seconds) {
      kill(-pid, SIGKILL);
      waitpid(pid, &status, 0);
      break;
    }
    if (while_running) while_running(pid);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  outcome.seconds = now() - begin;
  outcome.out = read_if_there(folder + "/out");
  outcome.err = read_if_there(folder + "/err");
  core::remove_tree(folder);
  return outcome;
}

ProgramTest::ProgramTest() : folder_(temporary_folder()) {
  std::string text;
  const char* words[] = {"sun ", "moon ", "river ", "stone ", "and ", "of ", "the ", "was\n", "light ", "water "};
  for (unsigned i = 0, state = 12345; i < 8000; ++i) {
    state = state * 1664525u + 1013904223u;
    text += words[(state >> 24) % 10];
  }
  write("text.txt", text);
  write("tiny.yaml", tiny_config());
}

ProgramTest::~ProgramTest() {
  if (!HasFailure()) core::remove_tree(folder_);
}

std::string ProgramTest::tiny_config() {
  return (test::on_gpu() ? "device: cuda\n" : "") +
         fmt::format("run: {{steps: {}, seed: 5}}\ndata: {{train: text.txt, sequence: {}, batch: 12}}\n", steps(),
                     sequence()) +
         R"(model: {layers: 2, heads: 2, width: 32, context: 32}
optimizer:
  matrices: {p: 1/2, lr: 3e-3, dtype: float32}
  others: {lr: 3e-3}
schedule: {kind: cosine, warmup: 3}
parallel: {threads: 1, bucket_mib: 0.02, wave_mib: 0.02}
log: {hash_every: 1, peak: false, validate_every: 10, validation_batches: 2}
)";
}

void ProgramTest::write(const std::string& name, const std::string& content) const {
  std::ofstream(path(name), std::ios::binary) << content;
}

std::string ProgramTest::read(const std::string& name) const { return core::read_file(path(name)); }

std::string ProgramTest::command(const std::string& arguments, int ranks, const std::string& program) const {
  const std::string launcher = ranks == 0 ? "" : fmt::format("{} -np {} ", MUONP_MPIRUN, ranks);
  return fmt::format("cd {} && OMP_NUM_THREADS=1 exec env {}{} {}", folder_, launcher, program, arguments);
}

Outcome ProgramTest::muonp(const std::string& arguments, int ranks, double timeout_seconds) const {
  return run_shell(command(arguments, ranks), timeout_seconds);
}

std::string ProgramTest::train_arguments(const std::string& name, const std::vector<std::string>& settings) const {
  std::string line = fmt::format("train tiny.yaml --set run.name={}", name);
  for (const std::string& setting : settings) line += " --set " + setting;
  return line;
}

void ProgramTest::train(const std::string& name, const std::vector<std::string>& settings, int ranks) const {
  const Outcome outcome = muonp(train_arguments(name, settings), ranks);
  ASSERT_EQ(outcome.status, 0) << train_arguments(name, settings) << " on " << ranks << " ranks\n"
                               << outcome.out << outcome.err;
}

std::vector<double> ProgramTest::metric(const std::string& run, const std::string& key) const {
  std::vector<double> values;
  for (const launch::MetricNumbers& line : launch::read_metrics(path("runs/" + run + "/metrics.jsonl")))
    if (const auto found = line.find(key); found != line.end()) values.push_back(found->second);
  return values;
}

double ProgramTest::difference(const std::string& a, const std::string& b) const {
  const std::vector<double> x = metric(a, "loss"), y = metric(b, "loss");
  EXPECT_EQ(x.size(), steps());
  EXPECT_EQ(x.size(), y.size());
  double worst = 0;
  for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i) worst = std::fmax(worst, std::fabs(x[i] - y[i]) / x[i]);
  return worst;
}

}  // namespace muonp::e2e
