#include "launch/train/loss_guard.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/error.h"
#include "dist/comm/agreement.h"

namespace muonp::launch {
namespace {

constexpr double kNormal = 1.4826;  // standard deviation / median absolute deviation of a normal distribution
constexpr double kFloor = 0.01;

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

}  // namespace

void GuardSection::describe(core::Fields& f) {
  static constexpr std::array<std::string_view, 4> policies = {"off", "warn", "skip", "stop"};
  f.choice("spike", spike, policies,
           "a loss that jumps: warn says so, skip leaves the weights as they are, stop saves and ends the run");
  f.real("factor", factor, {.min = 1, .max = 1e6}, "a spike is so many spreads above the median of the last losses");
  f.integer("window", window, {.min = 4, .max = 10000}, "losses that median and spread are taken over [steps]");
  f.integer("max_skipped", max_skipped, {.min = 0},
            "steps skipped in a row, for a spike or a gradient that is not finite, that end the run; 0 for "
            "no limit [steps]");
}

LossGuard::LossGuard(const GuardSection& settings, LossHistory history)
    : settings_(settings), forbids_(settings.spike == "skip" || settings.spike == "stop"), history_(std::move(history)) {
  // A checkpoint of a run with a longer window.
  const auto excess = static_cast<std::ptrdiff_t>(history_.losses.size()) - settings_.window;
  if (excess > 0) history_.losses.erase(history_.losses.begin(), history_.losses.begin() + excess);
}

LossGuard::Level LossGuard::level() const {
  const double middle = median(history_.losses);
  std::vector<double> deviations;
  for (double loss : history_.losses) deviations.push_back(std::abs(loss - middle));
  return {middle, std::max(kNormal * median(std::move(deviations)), kFloor * std::abs(middle))};
}

bool LossGuard::is_spike(double loss) const {
  if (settings_.spike == "off") return false;
  if (!std::isfinite(loss)) return true;
  if (!full()) return false;
  const Level now = level();
  return loss > now.median + settings_.factor * now.spread;
}

std::string LossGuard::explain(double loss) const {
  if (!std::isfinite(loss)) return fmt::format("loss {} is not finite", loss);
  const Level now = level();
  return fmt::format("loss {:.4f} is a spike: the last {} losses have median {:.4f}, spread {:.4f}, and guard.factor is {}",
                     loss, settings_.window, now.median, now.spread, settings_.factor);
}

void LossGuard::record(double loss, bool skipped) {
  if (!skipped) {
    history_.skipped_in_a_row = 0;
    if (!std::isfinite(loss)) return;
    if (full()) history_.losses.erase(history_.losses.begin());
    history_.losses.push_back(loss);
    return;
  }
  ++history_.skipped;
  ++history_.skipped_in_a_row;
}

void LossGuard::require_moves(double loss) const {
  if (settings_.max_skipped > 0 && history_.skipped_in_a_row >= settings_.max_skipped)
    throw dist::AgreedError(
        fmt::format("{} steps in a row were skipped (guard.max_skipped), the last with loss {}: the run does not go on like "
                    "this; a lower optimizer learning rate, optimizer.clip or an earlier checkpoint may help",
                    history_.skipped_in_a_row, loss));
}

}  // namespace muonp::launch
