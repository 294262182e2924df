// Attention in double precision, as the paper writes it: one query after the other, over the keys that it sees.
#pragma once

#include "core/device/attention_shape.h"
#include "tests/core/autograd/op_check.h"

namespace muonp::core::testing {

struct AttentionCase {
  std::int64_t batch, time;
  AttentionHeads heads;
  std::vector<std::int32_t> begins = {};  // [batch, time], or empty

  Shape shape() const { return {batch, time, heads.width()}; }
  Tensor begins_on(Device& device) const {
    if (begins.empty()) return {};
    const Tensor t = Tensor::empty(device, {batch, time}, Dtype::int32, Category::other);
    test::set_values(t, begins);
    return t;
  }
  std::int64_t first_seen(std::int64_t b, std::int64_t t) const {
    const std::int64_t of_document = begins.empty() ? 0 : begins[at(b * time + t)];
    return std::max({std::int64_t{0}, of_document, heads.window == 0 ? 0 : t - heads.window + 1});
  }
  // Where the elements of query head h (part 0), of the key head that it reads (1) and of its value (2) begin.
  std::size_t place(std::int64_t b, std::int64_t t, int part, std::int64_t h) const {
    const std::int64_t key = h / (heads.queries / heads.keys);
    const std::int64_t head = part == 0 ? h : heads.queries + (part - 1) * heads.keys + key;
    return at((b * time + t) * heads.width() + head * heads.size);
  }
  std::size_t out_place(std::int64_t b, std::int64_t t, std::int64_t h) const {
    return at((b * time + t) * heads.query_width() + h * heads.size);
  }
  std::string text() const {
    return fmt::format("{} sequences of {}, {} and {} heads of {}, window {}, {}", batch, time, heads.queries, heads.keys,
                       heads.size, heads.window, begins.empty() ? "whole" : "documents");
  }
};

// The begins of documents of these lengths, sequence by sequence; the last of a sequence goes to its end.
inline std::vector<std::int32_t> begins_of(std::int64_t time, const std::vector<std::vector<std::int64_t>>& lengths) {
  std::vector<std::int32_t> begins;
  for (const auto& of_sequence : lengths) {
    std::int64_t begin = 0, document = 0;
    for (std::int64_t t = 0; t < time; ++t) {
      if (document < std::ssize(of_sequence) && t == begin + of_sequence[at(document)]) begin = t, ++document;
      begins.push_back(static_cast<std::int32_t>(begin));
    }
  }
  return begins;
}

// All that is general in attention, at a size that finite differences can afford, and at lengths around the blocks of
// queries. `size`: of a head.
inline std::vector<AttentionCase> small_attention_cases(std::int64_t size) {
  return {{2, 5, {3, 3, size}},
          {1, 1, {1, 1, size}},
          {2, 6, {4, 2, size}},
          {1, 7, {3, 1, size}},
          {2, 6, {2, 2, size, 1}},
          {1, 9, {2, 1, size, 3}},
          {1, 5, {2, 2, size, 50}},
          {2, 7, {2, 2, size}, begins_of(7, {{3}, {1, 1, 2}})},
          {2, 6, {4, 1, size, 2}, begins_of(6, {{1, 4}, {}})},
          {1, 4, {1, 1, size}, begins_of(4, {{1, 1, 1}})}};
}
inline std::vector<AttentionCase> long_attention_cases(std::int64_t size) {
  return {{1, 71, {1, 1, size}},
          {1, 131, {2, 1, size, 5}},
          {1, 130, {2, 1, size, 70}},
          {1, 135, {2, 2, size}, begins_of(135, {{70, 1, 1, 40}})},
          {2, 66, {2, 1, size, 9}, begins_of(66, {{64}, {1, 63, 1}})}};
}

inline Numbers attention_reference(const Numbers& qkv, const AttentionCase& c) {
  const auto size = static_cast<std::size_t>(c.heads.size);
  Numbers y(at(c.batch * c.time * c.heads.query_width()));
  for (std::int64_t b = 0; b < c.batch; ++b)
    for (std::int64_t h = 0; h < c.heads.queries; ++h)
      for (std::int64_t t = 0; t < c.time; ++t) {
        const std::int64_t first = c.first_seen(b, t);
        Numbers weights;
        double total = 0;
        for (std::int64_t j = first; j <= t; ++j) {
          double dot = 0;
          for (std::size_t i = 0; i < size; ++i) dot += qkv[c.place(b, t, 0, h) + i] * qkv[c.place(b, j, 1, h) + i];
          total += weights.emplace_back(std::exp(dot / std::sqrt(double(size))));
        }
        for (std::size_t i = 0; i < size; ++i) {
          double sum = 0;
          for (std::int64_t j = first; j <= t; ++j) sum += weights[at(j - first)] / total * qkv[c.place(b, j, 2, h) + i];
          y[c.out_place(b, t, h) + i] = sum;
        }
      }
  return y;
}

// The largest score of each query head.
inline Numbers attention_maxima(const Numbers& qkv, const AttentionCase& c) {
  Numbers largest(at(c.heads.queries), -INFINITY);
  for (std::int64_t b = 0; b < c.batch; ++b)
    for (std::int64_t h = 0; h < c.heads.queries; ++h)
      for (std::int64_t t = 0; t < c.time; ++t)
        for (std::int64_t j = c.first_seen(b, t); j <= t; ++j) {
          double dot = 0;
          for (std::size_t i = 0; i < at(c.heads.size); ++i)
            dot += qkv[c.place(b, t, 0, h) + i] * qkv[c.place(b, j, 1, h) + i];
          largest[at(h)] = std::max(largest[at(h)], dot / std::sqrt(double(c.heads.size)));
        }
  return largest;
}

}  // namespace muonp::core::testing
