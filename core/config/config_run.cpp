// set_run_length and require_run_length: the same description, for its schedules alone.
#include "core/base/error.h"
#include "core/config/config.h"

namespace muonp::core {
namespace {

using UseSchedule = std::function<void(const std::string& path, StepSchedule& schedule)>;

class Schedules final : public Fields {
 public:
  Schedules(std::string prefix, const UseSchedule& use) : prefix_(std::move(prefix)), use_(use) {}

  void step_value(std::string_view name, StepValue& value, RealRange, std::string_view) override {
    use_(path_of(name), value);
  }
  void step_text(std::string_view name, StepText& value, std::string_view) override { use_(path_of(name), value); }
  void section(std::string_view name, const std::function<void(Fields&)>& describe, std::string_view) override {
    Schedules below(path_of(name) + ".", use_);
    describe(below);
  }
  void section_list(std::string_view name, std::size_t size, const std::function<void(std::size_t)>&,
                    const std::function<void(std::size_t, Fields&)>& describe, std::string_view) override {
    for (std::size_t i = 0; i < size; ++i) {
      Schedules below(fmt::format("{}.{}.", path_of(name), i), use_);
      describe(i, below);
    }
  }
  void integer(std::string_view, std::int64_t&, IntegerRange, std::string_view) override {}
  void real(std::string_view, double&, RealRange, std::string_view) override {}
  void boolean(std::string_view, bool&, std::string_view) override {}
  void text(std::string_view, std::string&, std::string_view, Presence) override {}
  void choice(std::string_view, std::string&, std::span<const std::string_view>, std::string_view) override {}
  void text_list(std::string_view, std::vector<std::string>&, std::string_view) override {}

 private:
  std::string path_of(std::string_view name) const { return prefix_ + std::string(name); }

  std::string prefix_;
  const UseSchedule& use_;
};

// What use() says is wrong with each schedule is one Error.
void for_each_schedule(const Describe& describe, std::string_view prefix, const UseSchedule& use) {
  std::string problems;
  const UseSchedule collect = [&](const std::string& path, StepSchedule& schedule) {
    try {
      use(path, schedule);
    } catch (const Error& error) {
      problems += fmt::format("{}{}: {}", problems.empty() ? "" : "\n", path, error.what());
    }
  };
  Schedules schedules{std::string(prefix), collect};
  describe(schedules);
  if (!problems.empty()) fail("{}", problems);
}

}  // namespace

void set_run_length(const Describe& describe, std::int64_t steps, std::string_view prefix) {
  for_each_schedule(describe, prefix, [steps](const std::string&, StepSchedule& schedule) { schedule.set_run(steps); });
}

void require_run_length(const Describe& describe, std::string_view prefix) {
  for_each_schedule(describe, prefix, [](const std::string&, StepSchedule& schedule) {
    if (schedule.needs_run())
      fail("it is relative to the run, whose length is not known; OptimizerConfig::for_run(steps) tells it");
  });
}

}  // namespace muonp::core
