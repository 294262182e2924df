#include "core/autograd/parameter.h"

#include <algorithm>
#include <iterator>

#include "core/base/math.h"
#include "core/base/rng.h"
#include "core/device/for_each.h"

namespace muonp::core {

std::string_view name_of(ParameterKind kind) {
  switch (kind) {
    case ParameterKind::matrix:
      return "matrix";
    case ParameterKind::embedding:
      return "embedding";
    case ParameterKind::head:
      return "head";
    case ParameterKind::vector:
      return "vector";
    case ParameterKind::lora_a:
      return "lora_a";
    case ParameterKind::lora_b:
      return "lora_b";
  }
  throw InternalError("unknown parameter kind");
}

namespace {

// FNV-1a: the random stream of a parameter follows from its name alone.
std::uint64_t stream_of(const std::string& name) {
  std::uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return hash;
}

constexpr std::int64_t kGroups = 64;  // of four numbers, from one Philox block each

struct NormalBlock {
  float values[4 * kGroups];
};

// Numbers 4·first .. 4·(first + kGroups) of the stream: element 4g + k is the k-th normal of Philox block g,
// two Box-Muller pairs a block.
void fill_normals(std::uint64_t seed, std::uint64_t stream, std::int64_t first, float stddev, NormalBlock& block) {
  float u[4][kGroups], n[4][kGroups];
  for (std::int64_t g = 0; g < kGroups; ++g) {
    const Random4 r = philox(seed, stream, static_cast<std::uint64_t>(first + g));
    for (int k = 0; k < 4; ++k) u[k][g] = uniform_from(r.v[k]);
  }
  for (int pair = 0; pair < 4; pair += 2)
    Row{0, kGroups}.each([&u, &n, pair, stddev](std::int64_t g) {
      const float radius = stddev * sqrtf(-2.0f * math::log(u[pair][g]));
      const math::SinCos angle = math::sincos_turns(u[pair + 1][g]);
      n[pair][g] = radius * angle.cos;
      n[pair + 1][g] = radius * angle.sin;
    });
  for (std::int64_t g = 0; g < kGroups; ++g)
    for (int k = 0; k < 4; ++k) block.values[4 * g + k] = n[k][g];
}

}  // namespace

void initialize(const Parameter& parameter, std::uint64_t seed, std::int64_t begin, std::int64_t count, float* to) {
  MUONP_ASSERT(begin >= 0 && count >= 0 && begin + count <= parameter.size(), "elements [{}, {}) of {} {}", begin,
               begin + count, parameter.name, to_string(parameter.shape));
  if (parameter.init.kind != Initializer::Kind::normal) {
    std::fill_n(to, count, parameter.init.kind == Initializer::Kind::ones ? 1.0f : 0.0f);
    return;
  }
  const std::uint64_t stream = stream_of(parameter.name);
  constexpr std::int64_t kNumbers = 4 * kGroups;
  NormalBlock block;
  for (std::int64_t at = begin; at < begin + count;) {
    const std::int64_t base = at / kNumbers * kNumbers, end = std::min(base + kNumbers, begin + count);
    fill_normals(seed, stream, base / 4, static_cast<float>(parameter.init.stddev), block);
    std::copy(block.values + (at - base), block.values + (end - base), to + (at - begin));
    at = end;
  }
}

ParameterList trained_of(const ParameterList& all) {
  ParameterList some;
  std::ranges::copy_if(all, std::back_inserter(some), [](const Parameter* p) { return p->trained; });
  return some;
}

ParameterList frozen_of(const ParameterList& all) {
  ParameterList some;
  std::ranges::copy_if(all, std::back_inserter(some), [](const Parameter* p) { return !p->trained; });
  return some;
}

WeightFiller random_weights(std::uint64_t seed) {
  return [seed](const Parameter& parameter, std::int64_t begin, std::int64_t count, float* to) {
    initialize(parameter, seed, begin, count, to);
  };
}

}  // namespace muonp::core
