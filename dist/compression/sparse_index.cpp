#include "dist/compression/sparse_index.h"

#include <limits>

#include "core/device/for_each.h"

namespace muonp::dist::compression {

using core::Tensor;

namespace {

MUONP_HD inline int ones_in(unsigned byte) {
  byte = byte - (byte >> 1 & 0x55u);
  byte = (byte & 0x33u) + (byte >> 2 & 0x33u);
  return static_cast<int>((byte + (byte >> 4)) & 0x0fu);
}

struct EncodeLow {  // byte i of the low bits
  const std::int32_t* indices;
  std::int64_t k, low_bits;
  std::uint8_t* to;
  MUONP_HD void operator()(std::int64_t i) const {
    unsigned byte = 0;
    for (std::int64_t bit = 8 * i; bit < 8 * i + 8 && bit < k * low_bits; ++bit)
      byte |= (static_cast<unsigned>(indices[bit / low_bits]) >> (bit % low_bits) & 1u) << (bit - 8 * i);
    to[i] = static_cast<std::uint8_t>(byte);
  }
};

struct EncodeHigh {  // byte i of the field
  const std::int32_t* indices;
  std::int64_t k, low_bits;
  std::uint8_t* to;
  MUONP_HD std::int64_t position(std::int64_t j) const { return j + (indices[j] >> low_bits); }
  MUONP_HD void operator()(std::int64_t i) const {
    std::int64_t first = 0, end = k;  // the first index whose bit is in this byte or behind it
    while (first < end) {
      const std::int64_t middle = (first + end) / 2;
      if (position(middle) < 8 * i)
        first = middle + 1;
      else
        end = middle;
    }
    unsigned byte = 0;
    for (std::int64_t j = first; j < k && position(j) < 8 * i + 8; ++j) byte |= 1u << (position(j) - 8 * i);
    to[i] = static_cast<std::uint8_t>(byte);
  }
};

struct CountOnes {  // in chunk c of the field
  const std::uint8_t* field;
  std::int64_t bytes;
  std::int32_t* counts;
  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t begin = row.index * row.cols;
    counts[row.index] = row.part(bytes - begin < row.cols ? bytes - begin : row.cols)
                            .sum([](std::uint8_t byte) { return ones_in(byte); }, field + begin);
  }
};

struct SumBefore {  // counts become the sum of those before them; one thread
  std::int32_t* counts;
  std::int64_t count;
  MUONP_HD void operator()(std::int64_t) const {
    std::int32_t sum = 0;
    for (std::int64_t c = 0; c < count; ++c) {
      const std::int32_t here = counts[c];
      counts[c] = sum;
      sum += here;
    }
  }
};

struct DecodeChunk {  // a chunk is gone through in order
  const std::uint8_t *low, *field;
  std::int64_t bytes, k, low_bits;
  const std::int32_t* before;
  std::int32_t* indices;
  MUONP_HD std::int32_t low_of(std::int64_t j) const {
    std::int32_t value = 0;
    for (std::int64_t bit = 0; bit < low_bits; ++bit) {
      const std::int64_t at = j * low_bits + bit;
      value |= (low[at / 8] >> (at % 8) & 1) << bit;
    }
    return value;
  }
  MUONP_ROW_KERNEL void operator()(const R& row) const {
    std::int64_t j = before[row.index];
    for (std::int64_t b = row.index * row.cols; b < (row.index + 1) * row.cols && b < bytes; ++b)
      for (int bit = 0; bit < 8; ++bit) {
        if (!(field[b] >> bit & 1) || j >= k) continue;
        indices[j] = static_cast<std::int32_t>((8 * b + bit - j) << low_bits) | low_of(j);
        ++j;
      }
  }
};

}  // namespace

SparseIndex::SparseIndex(std::int64_t n, std::int64_t k) : n_(n), k_(k) {
  MUONP_ASSERT(k >= 1 && k <= n && n <= std::numeric_limits<std::int32_t>::max(), "{} of {} indices", k, n);
  while ((k_ << (low_bits_ + 1)) <= n_) ++low_bits_;
}

void SparseIndex::encode(core::Queue& queue, const Tensor& indices, std::uint8_t* wire) const {
  const auto* from = indices.data<std::int32_t>();
  core::for_each(queue, low_bytes(), EncodeLow{from, k_, low_bits_, wire});
  core::for_each(queue, high_bytes(), EncodeHigh{from, k_, low_bits_, wire + low_bytes()});
}

void SparseIndex::decode(core::Device& device, const std::uint8_t* wire, const Tensor& indices) const {
  core::Queue& queue = device.queue();
  const Tensor before = Tensor::empty(device, {chunks()}, core::Dtype::int32, core::Category::exchange);
  auto* counts = before.data<std::int32_t>();
  const std::uint8_t* field = wire + low_bytes();
  core::for_each_row(queue, chunks(), kChunk, CountOnes{field, high_bytes(), counts});
  core::for_each(queue, 1, SumBefore{counts, chunks()});
  core::for_each_row(queue, chunks(), kChunk,
                     DecodeChunk{wire, field, high_bytes(), k_, low_bits_, counts, indices.data<std::int32_t>()});
}

}  // namespace muonp::dist::compression
