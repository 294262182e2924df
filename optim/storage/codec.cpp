#include "optim/storage/codec.h"

#include <bit>
#include <cmath>
#include <limits>

#include "core/base/rng.h"
#include "core/device/for_each.h"

namespace muonp::optim {

using core::Tensor;

namespace {

constexpr std::int64_t kGroup = 4;  // elements that one draw of random numbers suffices for

// The groups, counted over the parameter, of its elements [begin, end).
struct Fours {
  std::int64_t begin, count;
  MUONP_HD Fours(std::int64_t from, std::int64_t to) : begin(from / kGroup), count((to - 1) / kGroup - from / kGroup + 1) {}
};

// f(i, 32 random bits) of those elements i in [begin, end) that lie in a group.
template <class F>
MUONP_HD void each_of_group(std::int64_t group, std::int64_t begin, std::int64_t end, const RoundingKey& key, const F& f) {
  const core::Random4 random =
      key.stochastic ? core::philox(key.state, key.step, static_cast<std::uint64_t>(group)) : core::Random4{};
  for (int k = 0; k < kGroup; ++k)
    if (const std::int64_t i = kGroup * group + k; i >= begin && i < end) f(i, random.v[k]);
}

// ---- bfloat16 ----

MUONP_HD std::uint16_t bfloat16_bits(float x, bool stochastic, std::uint32_t random) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if (!stochastic || (bits & 0x7fffffffu) > 0x7f800000u) return core::bfloat16(x).bits;  // NaN stays NaN
  return static_cast<std::uint16_t>((bits + (random & 0xffffu)) >> 16);
}

struct EncodeBfloat16 {  // of a group
  const float* x;
  core::bfloat16* codes;
  std::int64_t first, end;
  RoundingKey key;
  MUONP_HD void operator()(std::int64_t g) const {
    const EncodeBfloat16 self = *this;
    each_of_group(Fours(first, end).begin + g, first, end, key, [=](std::int64_t i, std::uint32_t random) {
      self.codes[i - self.first].bits = bfloat16_bits(self.x[i - self.first], self.key.stochastic, random);
    });
  }
};

struct DecodeBfloat16 {
  const core::bfloat16* codes;
  core::Written<float> to;
  using Elements = core::ElementArrays<&DecodeBfloat16::codes, &DecodeBfloat16::to>;
  MUONP_HD void operator()(std::int64_t i) const { to[i] = float(codes[i]); }
};

// ---- int8 ----

// The levels of one content, as shares of the largest magnitude: even in the second or the fourth root.
struct Levels {
  bool squares;
  MUONP_HD int highest() const { return squares ? 255 : 127; }
  MUONP_HD float level(int k) const {
    const int top = highest();
    const float root = static_cast<float>(k * k) / static_cast<float>(top * top);  // 1 at the top, exactly
    return squares ? root * root : root;
  }
  // The code of a ratio in [0, 1].
  MUONP_HD int code(float ratio, bool stochastic, std::uint32_t random) const {
    const int top = highest();
    const float place = (squares ? sqrtf(sqrtf(ratio)) : sqrtf(ratio)) * static_cast<float>(top);
    int below = static_cast<int>(place);
    below = below < top ? below : top - 1;
    const float low = level(below), step = level(below + 1) - low, above = ratio - low;
    const bool up = stochastic ? static_cast<float>(random >> 9) * 0x1p-23f * step < above : above >= 0.5f * step;
    const int k = below + (up ? 1 : 0);
    return squares && k == 0 && ratio > 0 ? 1 : k;
  }
};

struct EncodeInt8 {  // of a block
  const float* x;
  std::uint8_t* codes;
  float* scales;
  std::int64_t first, end;
  Levels levels;
  RoundingKey key;
  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t block = (first / kStateBlock + row.index) * kStateBlock;
    const std::int64_t from = block > first ? block : first, to = block + kStateBlock < end ? block + kStateBlock : end;
    constexpr float kFinite = std::numeric_limits<float>::max();
    const float largest = row.part(to - from).max(
        [](float a) { return fabsf(a) <= kFinite ? fabsf(a) : std::numeric_limits<float>::infinity(); }, x + (from - first));
    const bool finite = largest <= kFinite;
    scales[row.index] = finite ? largest : std::numeric_limits<float>::quiet_NaN();
    const float divisor = finite && largest > 0 ? largest : 1.0f;
    const bool coded = finite && largest > 0;
    const EncodeInt8 self = *this;
    const Fours fours(from, to);
    row.part(fours.count).each([=](std::int64_t g) {
      each_of_group(fours.begin + g, from, to, self.key, [=](std::int64_t i, std::uint32_t random) {
        const float value = self.x[i - self.first];
        const int k = coded ? self.levels.code(fabsf(value) / divisor, self.key.stochastic, random) : 0;
        const int sign = value < 0 && !self.levels.squares && k > 0 ? 0x80 : 0;
        self.codes[i - self.first] = static_cast<std::uint8_t>(k | sign);
      });
    });
  }
};

struct DecodeInt8 {
  const std::uint8_t* codes;
  const float* scales;
  float* to;
  std::int64_t first;
  Levels levels;
  MUONP_HD void operator()(std::int64_t i) const {
    const int code = codes[i], k = levels.squares ? code : code & 0x7f;
    const float magnitude = scales[(first + i) / kStateBlock - first / kStateBlock] * levels.level(k);
    to[i] = code != k ? -magnitude : magnitude;
  }
};

}  // namespace

void encode_bfloat16(core::Queue& queue, const Tensor& from, std::int64_t first, const RoundingKey& key,
                     const Tensor& codes) {
  if (from.size() == 0) return;
  const std::int64_t end = first + from.size();
  core::for_each(queue, Fours(first, end).count,
                 EncodeBfloat16{from.data<float>(), codes.data<core::bfloat16>(), first, end, key});
}

void decode_bfloat16(core::Queue& queue, const Tensor& codes, const Tensor& to) {
  core::for_each(queue, to.size(), DecodeBfloat16{codes.data<core::bfloat16>(), {to.data<float>()}});
}

void encode_int8(core::Queue& queue, const Tensor& from, Content content, std::int64_t first, const RoundingKey& key,
                 const Tensor& codes, const Tensor& scales) {
  if (from.size() == 0) return;
  core::for_each_row(queue, scales.size(), kStateBlock,
                     EncodeInt8{from.data<float>(), codes.data<std::uint8_t>(), scales.data<float>(), first,
                                first + from.size(), Levels{content == Content::second_moment}, key});
}

void decode_int8(core::Queue& queue, const Tensor& codes, const Tensor& scales, Content content, std::int64_t first,
                 const Tensor& to) {
  core::for_each(queue, to.size(),
                 DecodeInt8{codes.data<std::uint8_t>(), scales.data<float>(), to.data<float>(), first,
                            Levels{content == Content::second_moment}});
}

}  // namespace muonp::optim
