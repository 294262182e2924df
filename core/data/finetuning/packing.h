// Which documents share a sequence.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace muonp::core {

// Sequences of documents by number: sequence s has documents[begins[s]] to documents[begins[s + 1] - 1].
struct Packing {
  std::vector<std::int32_t> documents;
  std::vector<std::int64_t> begins;
  std::int64_t sequences() const { return std::ssize(begins) - 1; }
};

// Best fit decreasing: from the longest to the shortest, each document goes into the fullest sequence that still has room
// for it, or into a new one (Johnson et al., SIAM J. Comput. 1974: at most 11/9 of the fewest sequences). A function of the
// lengths alone. Sequences are in the order of their first documents, and documents rise within each. Lengths are from 1 to
// `capacity`; fewer than 2³¹.
Packing pack(std::span<const std::int32_t> lengths, std::int64_t capacity);

}  // namespace muonp::core
