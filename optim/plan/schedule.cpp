#include "optim/plan/schedule.h"

#include <cmath>
#include <numbers>

#include "core/base/error.h"

namespace muonp::optim {

namespace {

std::int64_t decay_steps(const ScheduleConfig& s, std::int64_t total) {
  return std::llround(s.decay_fraction * static_cast<double>(total));
}

double falling(double final_fraction, std::int64_t done, std::int64_t of) {
  return 1 - (1 - final_fraction) * static_cast<double>(done) / static_cast<double>(of);
}

}  // namespace

void ScheduleConfig::describe(core::Fields& f) {
  f.choice("kind", kind, kScheduleKinds, "how the learning rate falls after the warm-up; wsd: constant, then a decay");
  f.integer("warmup", warmup, {.min = 0}, "length of the linear warm-up [steps]");
  f.real("decay_fraction", decay_fraction, {.min = 0, .max = 1}, "wsd: share of the run that the final decay takes");
  f.real("final_fraction", final_fraction, {.min = 0, .max = 1}, "share of the learning rate that the decay ends at");
}

void ScheduleConfig::validate(std::int64_t total_steps) const {
  if (total_steps == 0) return;  // no step, no rate
  if (warmup > total_steps)
    core::fail("schedule.warmup is {} steps, longer than the run of {}; valid: 0 to {}", warmup, total_steps, total_steps);
  if (kind == "wsd" && warmup + decay_steps(*this, total_steps) > total_steps)
    core::fail(
        "schedule.warmup ({} steps) and schedule.decay_fraction ({}, {} steps) together exceed the run of {} "
        "steps",
        warmup, decay_fraction, decay_steps(*this, total_steps), total_steps);
}

double lr_factor(const ScheduleConfig& s, std::int64_t step, std::int64_t total_steps) {
  MUONP_ASSERT(step >= 0 && step < total_steps, "step {} of {}", step, total_steps);
  if (step < s.warmup) return static_cast<double>(step + 1) / static_cast<double>(s.warmup);
  if (s.kind == "constant") return 1;
  if (s.kind == "linear") return falling(s.final_fraction, step - s.warmup, total_steps - s.warmup);
  if (s.kind == "cosine") {
    const double x = static_cast<double>(step - s.warmup) / static_cast<double>(total_steps - s.warmup);
    return s.final_fraction + (1 - s.final_fraction) * (1 + std::cos(std::numbers::pi * x)) / 2;
  }
  MUONP_ASSERT(s.kind == "wsd", "schedule {}", s.kind);
  const std::int64_t decay = decay_steps(s, total_steps), start = total_steps - decay;
  return step < start ? 1 : falling(s.final_fraction, step - start, decay);
}

}  // namespace muonp::optim
