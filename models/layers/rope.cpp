#include "models/layers/rope.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "core/base/error.h"
#include "core/base/index.h"

namespace muonp::models {

namespace {

constexpr std::array<std::string_view, 5> kKinds = {"default", "linear", "dynamic", "llama3", "yarn"};

// Keys that only some kinds have.
struct KeysOfKinds {
  std::string_view condition;
  std::initializer_list<std::string_view> kinds;
  void (*describe)(RopeConfig& c, core::Fields& f);
};
const KeysOfKinds kKeys[] = {
    {"kind: linear, dynamic, llama3 or yarn",
     {"linear", "dynamic", "llama3", "yarn"},
     [](RopeConfig& c, core::Fields& f) {
       f.real("factor", c.factor, {.min = 1, .max = 1e6},
              "how many times longer the context is than the one trained on first");
     }},
    {"kind: dynamic, llama3 or yarn",
     {"dynamic", "llama3", "yarn"},
     [](RopeConfig& c, core::Fields& f) {
       f.integer("original_context", c.original_context, {.min = 0, .max = 1 << 24},
                 "context trained on first; 0: the model's [tokens]");
     }},
    {"kind: llama3",
     {"llama3"},
     [](RopeConfig& c, core::Fields& f) {
       f.real("low_frequency_factor", c.low_frequency_factor, {.min = 1e-6, .max = 1e6},
              "frequencies with fewer turns in original_context are divided by factor [turns]");
       f.real("high_frequency_factor", c.high_frequency_factor, {.min = 1e-6, .max = 1e6},
              "frequencies with more turns in original_context stay [turns]");
     }},
    {"kind: yarn",
     {"yarn"},
     [](RopeConfig& c, core::Fields& f) {
       f.real("beta_fast", c.beta_fast, {.min = 1e-6, .max = 1e6},
              "frequencies with more turns in original_context stay [turns]");
       f.real("beta_slow", c.beta_slow, {.min = 1e-6, .max = 1e6},
              "frequencies with fewer turns in original_context are divided by factor [turns]");
       f.real("attention_factor", c.attention_factor, {.min = 0, .max = 1e6},
              "queries and keys are multiplied by it; 0: 0.1 ln(factor) + 1, or as mscale says");
       f.real("mscale", c.mscale, {.min = 0, .max = 1e6},
              "with mscale_all_dim: the ratio of 0.1 mscale ln(factor) + 1 of both");
       f.real("mscale_all_dim", c.mscale_all_dim, {.min = 0, .max = 1e6}, "see mscale");
       f.boolean("truncate", c.truncate, "the frequencies between which is blended are rounded to whole pairs");
     }},
};

bool contains(std::initializer_list<std::string_view> kinds, std::string_view kind) {
  return std::ranges::find(kinds, kind) != kinds.end();
}

std::vector<double> plain_frequencies(double theta, std::int64_t head_size) {
  std::vector<double> f(core::at(head_size / 2));
  for (std::size_t i = 0; i < f.size(); ++i)
    f[i] = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_size));
  return f;
}

double stretched_theta(const RopeConfig& c, double head_size, double original, double time) {
  const double stretch = c.factor * std::max(time, original) / original - (c.factor - 1);
  return c.theta * std::pow(stretch, head_size / (head_size - 2));
}

void blend_as_llama3(const RopeConfig& c, double original, std::vector<double>& frequencies) {
  for (double& f : frequencies) {
    const double turns = original * f / (2 * std::numbers::pi);
    const double kept =
        std::clamp((turns - c.low_frequency_factor) / (c.high_frequency_factor - c.low_frequency_factor), 0.0, 1.0);
    f *= kept + (1 - kept) / c.factor;
  }
}

// Pairs between `first` and `last` turn from beta_fast to beta_slow times within the original context.
void blend_as_yarn(const RopeConfig& c, double head_size, double original, std::vector<double>& frequencies) {
  const auto pair_that_turns = [&](double turns) {
    return head_size * std::log(original / (turns * 2 * std::numbers::pi)) / (2 * std::log(c.theta));
  };
  double first = pair_that_turns(c.beta_fast), last = pair_that_turns(c.beta_slow);
  if (c.truncate) first = std::floor(first), last = std::ceil(last);
  first = std::max(first, 0.0);
  last = std::min(last, head_size - 1);
  if (first == last) last += 0.001;
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const double kept = 1 - std::clamp((static_cast<double>(i) - first) / (last - first), 0.0, 1.0);
    frequencies[i] *= kept + (1 - kept) / c.factor;
  }
}

double yarn_scale(const RopeConfig& c) {
  const auto scale = [&](double mscale) { return c.factor <= 1 ? 1 : 0.1 * mscale * std::log(c.factor) + 1; };
  if (c.attention_factor > 0) return c.attention_factor;
  return c.mscale > 0 && c.mscale_all_dim > 0 ? scale(c.mscale) / scale(c.mscale_all_dim) : scale(1);
}

}  // namespace

void RopeConfig::describe(core::Fields& f) {
  f.choice("kind", kind, kKinds, "how frequencies are stretched over a longer context (docs/models.md)");
  f.real("theta", theta, {.min = 1.001, .max = 1e15}, "base of the frequencies theta^(-2i/head_size) [radians a token]");
  for (const KeysOfKinds& keys : kKeys) {
    if (contains(keys.kinds, kind)) {
      keys.describe(*this, f);
    } else {
      f.others_if(std::string(keys.condition), [&keys](core::Fields& inner) {
        RopeConfig with_defaults;
        keys.describe(with_defaults, inner);
      });
    }
  }
}

void RopeConfig::check(std::int64_t head_size, std::int64_t context) const {
  if (std::ranges::find(kKinds, kind) == kKinds.end())
    core::fail("model.rope.kind: '{}' is not known; valid are {}", kind, fmt::join(kKinds, ", "));
  if (head_size % 2 != 0) core::fail("model.head_size: {} is odd; rotary positions turn pairs of numbers", head_size);
  if (kind == "dynamic" && head_size < 4)
    core::fail("model.rope.kind: dynamic needs a head_size of at least 4, not {}", head_size);
  if (!(theta > 1)) core::fail("model.rope.theta: {} is not above 1", theta);
  if (!(factor >= 1)) core::fail("model.rope.factor: {} is below 1", factor);
  if (original_context < 0 || original_context > std::max<std::int64_t>(context, 1 << 24))
    core::fail("model.rope.original_context: {} is not valid", original_context);
  if (kind == "llama3" && !(0 < low_frequency_factor && low_frequency_factor < high_frequency_factor))
    core::fail("model.rope.low_frequency_factor: {} is not between 0 and high_frequency_factor, {}", low_frequency_factor,
               high_frequency_factor);
  if (kind == "yarn" && !(0 < beta_slow && beta_slow <= beta_fast))
    core::fail("model.rope.beta_slow: {} is not between 0 and beta_fast, {}", beta_slow, beta_fast);
}

RopeFrequencies rope_frequencies(const RopeConfig& c, std::int64_t head_size, std::int64_t context, std::int64_t time) {
  const auto size = static_cast<double>(head_size);
  const auto original = static_cast<double>(c.original_context > 0 ? c.original_context : context);
  RopeFrequencies result{plain_frequencies(c.theta, head_size), 1};
  if (c.kind == "linear")
    for (double& f : result.frequencies) f /= c.factor;
  if (c.kind == "dynamic")
    result.frequencies = plain_frequencies(stretched_theta(c, size, original, static_cast<double>(time)), head_size);
  if (c.kind == "llama3") blend_as_llama3(c, original, result.frequencies);
  if (c.kind == "yarn") {
    blend_as_yarn(c, size, original, result.frequencies);
    result.scale = yarn_scale(c);
  }
  return result;
}

}  // namespace muonp::models
