// Compressors that send something of every entry: identity, natural, sign, int2 … int8.
#include <algorithm>
#include <cmath>

#include "core/device/for_each.h"
#include "core/device/host_view.h"
#include "dist/compression/kinds.h"

namespace muonp::dist::compression {

using core::Tensor;

namespace {

MUONP_HD int levels_of(int bits) { return (1 << (bits - 1)) - 1; }
std::int64_t blocks_of(std::int64_t n) { return (n + kBlock - 1) / kBlock; }
std::uint8_t* bytes_of(const Tensor& wire) { return wire.data<std::uint8_t>(); }

// out = weight·value(i), or out + that; Value is what the receiver reads of a message.
template <class Value>
struct Decode {
  Value value;
  float* out;
  float weight;
  bool add;
  MUONP_HD void operator()(std::int64_t i) const {
    const float x = weight * value(i);
    out[i] = add ? out[i] + x : x;
  }
};

template <class Value>
void decode_each(core::Device& device, const Value& value, float weight, bool add, const Tensor& out) {
  core::for_each(device.queue(), out.size(), Decode<Value>{value, out.data<float>(), weight, add});
}

// ---- identity: n float32 ----

struct PlainValue {
  const std::uint8_t* wire;
  MUONP_HD float operator()(std::int64_t i) const { return load_float(wire + 4 * i); }
};

class Identity final : public Compressor {
 public:
  using Compressor::Compressor;
  double alpha() const override { return 1; }
  std::int64_t wire_bytes() const override { return 4 * size(); }
  bool exact() const override { return true; }
  void encode(core::Device& device, const Tensor& x, const Tensor&, const CompressionKey&,
              const Tensor& wire) const override {
    device.queue().copy(wire.raw(), x.raw(), x.bytes());
  }
  void decode(core::Device& device, const Tensor& wire, float weight, bool add, const Tensor& out) const override {
    decode_each(device, PlainValue{bytes_of(wire)}, weight, add, out);
  }
};

// ---- natural: a float32, the largest power of two; n codes ----

struct NaturalEncode {
  const float* x;
  std::uint8_t* codes;
  NaturalCode code;
  MUONP_HD void operator()(std::int64_t i) const { codes[i] = code.encode(x[i]); }
};

struct NaturalValue {
  const std::uint8_t* wire;
  MUONP_HD float operator()(std::int64_t i) const { return NaturalCode{load_float(wire)}.decode(wire[4 + i]); }
};

class Natural final : public Compressor {
 public:
  using Compressor::Compressor;
  double alpha() const override { return 8.0 / 9; }  // 1.5·2^e is rounded worst, by a third of it
  std::int64_t wire_bytes() const override { return 4 + size(); }
  void encode(core::Device& device, const Tensor& x, const Tensor&, const CompressionKey&,
              const Tensor& wire) const override {
    core::Queue& queue = device.queue();
    const NaturalCode code{NaturalCode::top_of(largest_magnitude(queue, x))};
    queue.write(wire.raw(), &code.top, sizeof code.top);
    core::for_each(queue, size(), NaturalEncode{x.data<float>(), bytes_of(wire) + 4, code});
  }
  void decode(core::Device& device, const Tensor& wire, float weight, bool add, const Tensor& out) const override {
    decode_each(device, NaturalValue{bytes_of(wire)}, weight, add, out);
  }
};

// ---- blocks that share a scale ----

// out = weight·value, or out + that, eight entries at a time; Codes is what the receiver reads of eight.
template <class Codes>
struct DecodeBlocks {
  Codes codes;
  const std::uint8_t* scales;
  float* out;
  std::int64_t n;
  float weight;
  bool add;
  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t begin = row.index * kBlock, count = n - begin < kBlock ? n - begin : kBlock;
    const double scale = codes.scale(load_float(scales + 4 * row.index));
    const DecodeBlocks self = *this;
    row.part((count + 7) / 8).each([=](std::int64_t c) {
      const int present = count - 8 * c < 8 ? static_cast<int>(count - 8 * c) : 8;
      float values[8];
      self.codes.read(begin / 8 + c, present, scale, values);
      float* to = self.out + begin + 8 * c;
      for (int k = 0; k < 8; ++k) {
        const float x = self.weight * values[k];
        if (k < present) to[k] = self.add ? to[k] + x : x;
      }
    });
  }
};

template <class Codes>
void decode_blocks(core::Device& device, const Codes& codes, const Tensor& wire, float weight, bool add, const Tensor& out) {
  core::for_each_row(device.queue(), blocks_of(out.size()), kBlock,
                     DecodeBlocks<Codes>{codes, bytes_of(wire), out.data<float>(), out.size(), weight, add});
}

// ---- int2 … int8: the largest magnitude of each block, float32; n integers of B bits in [−L, L], L = 2^(B−1) − 1 ----

// Eight integers fill B bytes, the first one lowest. In double: a block may consist of subnormals.
struct IntegerEncode {
  const float* x;
  std::int64_t n;
  std::uint8_t *scales, *codes;
  int bits;
  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t begin = row.index * kBlock, count = n - begin < kBlock ? n - begin : kBlock;
    const float* from = x + begin;
    const float largest = row.part(count).max([](float a) { return fabsf(a); }, from);
    store_float(scales + 4 * row.index, largest);
    const int width = bits;
    const double factor = largest == 0 ? 0 : levels_of(width) / static_cast<double>(largest);
    const unsigned mask = (1u << width) - 1;
    std::uint8_t* to = codes + begin / 8 * width;
    row.part((count + 7) / 8).each([=](std::int64_t c) {
      const int present = count - 8 * c < 8 ? static_cast<int>(count - 8 * c) : 8;
      float values[8] = {};
      for (int k = 0; k < present; ++k) values[k] = from[8 * c + k];
      std::uint64_t packed = 0;
      for (int k = 0; k < 8; ++k) {
        const double q = values[k] * factor;
        const int integer = static_cast<int>(q + (q < 0 ? -0.5 : 0.5));
        packed |= static_cast<std::uint64_t>(static_cast<unsigned>(integer) & mask) << (k * width);
      }
      for (int b = 0; 8 * b < present * width; ++b) to[c * width + b] = static_cast<std::uint8_t>(packed >> (8 * b));
    });
  }
};

struct IntegerCodes {
  const std::uint8_t* codes;
  int bits;
  MUONP_HD double scale(float largest) const { return static_cast<double>(largest) / levels_of(bits); }
  // The first `present` of eight entries, the others unspecified.
  MUONP_HD void read(std::int64_t eight, int present, double scale, float (&values)[8]) const {
    const std::uint8_t* from = codes + eight * bits;
    std::uint64_t packed = 0;
    for (int b = 0; 8 * b < present * bits; ++b) packed |= static_cast<std::uint64_t>(from[b]) << (8 * b);
    const int sign = 1 << (bits - 1), mask = 2 * sign - 1;
    for (int k = 0; k < 8; ++k)
      values[k] = static_cast<float>((((static_cast<int>(packed >> (k * bits)) & mask) ^ sign) - sign) * scale);
  }
};

class Integer final : public Compressor {
 public:
  Integer(std::int64_t rows, std::int64_t cols, int bits) : Compressor(rows, cols), bits_(bits) {}
  // An entry is off by h = M/2L at most, M the largest magnitude of its block, and by no more than itself; the largest by
  // nothing. Worst are n − 1 entries of h each beside M.
  double alpha() const override {
    const double square = std::pow(2 * levels_of(bits_), 2);
    return square / (square + static_cast<double>(std::min(size(), kBlock) - 1));
  }
  std::int64_t wire_bytes() const override { return 4 * blocks_of(size()) + (size() * bits_ + 7) / 8; }
  void encode(core::Device& device, const Tensor& x, const Tensor&, const CompressionKey&,
              const Tensor& wire) const override {
    const std::int64_t blocks = blocks_of(size());
    core::for_each_row(device.queue(), blocks, kBlock,
                       IntegerEncode{x.data<float>(), size(), bytes_of(wire), bytes_of(wire) + 4 * blocks, bits_});
  }
  void decode(core::Device& device, const Tensor& wire, float weight, bool add, const Tensor& out) const override {
    decode_blocks(device, IntegerCodes{bytes_of(wire) + 4 * blocks_of(size()), bits_}, wire, weight, add, out);
  }

 private:
  int bits_;
};

// ---- sign: the mean magnitude of each block, float32; n bits, 1 for negative ----

struct SignEncode {
  const float* x;
  std::int64_t n;
  std::uint8_t *scales, *bits;
  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t begin = row.index * kBlock;
    const std::int64_t count = n - begin < kBlock ? n - begin : kBlock;
    const double sum = row.part(count).sum([](float a) { return static_cast<double>(fabsf(a)); }, x + begin);
    store_float(scales + 4 * row.index, static_cast<float>(sum / static_cast<double>(count)));
    const float* from = x + begin;
    std::uint8_t* to = bits + begin / 8;
    row.part((count + 7) / 8).each([=](std::int64_t c) {
      unsigned byte = 0;
      for (std::int64_t k = 8 * c; k < 8 * c + 8 && k < count; ++k)
        byte |= static_cast<unsigned>(from[k] < 0) << (k - 8 * c);
      to[c] = static_cast<std::uint8_t>(byte);
    });
  }
};

struct SignCodes {
  const std::uint8_t* bits;
  MUONP_HD double scale(float mean) const { return mean; }
  MUONP_HD void read(std::int64_t eight, int, double scale, float (&values)[8]) const {
    const auto mean = static_cast<float>(scale);
    const int byte = bits[eight];
    for (int k = 0; k < 8; ++k) values[k] = mean * static_cast<float>(1 - 2 * (byte >> k & 1));
  }
};

class Sign final : public Compressor {
 public:
  using Compressor::Compressor;
  // ‖C(x) − x‖² = ‖x‖² − ‖x‖₁²/n in a block of n, and ‖x‖₁ ≥ ‖x‖.
  double alpha() const override { return 1.0 / static_cast<double>(std::min(size(), kBlock)); }
  std::int64_t wire_bytes() const override { return 4 * blocks_of(size()) + (size() + 7) / 8; }
  void encode(core::Device& device, const Tensor& x, const Tensor&, const CompressionKey&,
              const Tensor& wire) const override {
    const std::int64_t blocks = blocks_of(size());
    core::for_each_row(device.queue(), blocks, kBlock,
                       SignEncode{x.data<float>(), size(), bytes_of(wire), bytes_of(wire) + 4 * blocks});
  }
  void decode(core::Device& device, const Tensor& wire, float weight, bool add, const Tensor& out) const override {
    decode_blocks(device, SignCodes{bytes_of(wire) + 4 * blocks_of(size())}, wire, weight, add, out);
  }
};

// ---- shared ----

constexpr std::int64_t kChunk = 4096;

struct ChunkMaxima {
  const float* x;
  std::int64_t n;
  float* maxima;
  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t begin = row.index * kChunk;
    const std::int64_t count = n - begin < kChunk ? n - begin : kChunk;
    maxima[row.index] = row.part(count).max([](float a) { return fabsf(a); }, x + begin);
  }
};

}  // namespace

float largest_magnitude(core::Queue& queue, const Tensor& x) {
  const std::int64_t n = x.size(), chunks = (n + kChunk - 1) / kChunk;
  core::HostResult<float> maxima(queue, chunks);
  core::for_each_row(queue, chunks, kChunk, ChunkMaxima{x.data<float>(), n, maxima.to_write()});
  float largest = 0;
  for (const float m : maxima.read()) largest = std::max(largest, m);
  return largest;
}

std::unique_ptr<Compressor> make_identity(std::int64_t rows, std::int64_t cols) {
  return std::make_unique<Identity>(rows, cols);
}
std::unique_ptr<Compressor> make_natural(std::int64_t rows, std::int64_t cols) {
  return std::make_unique<Natural>(rows, cols);
}
std::unique_ptr<Compressor> make_sign(std::int64_t rows, std::int64_t cols) { return std::make_unique<Sign>(rows, cols); }
std::unique_ptr<Compressor> make_integer(std::int64_t rows, std::int64_t cols, int bits) {
  return std::make_unique<Integer>(rows, cols, bits);
}

}  // namespace muonp::dist::compression
