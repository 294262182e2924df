// Ranks that share the work on one matrix. Its longer side is cut over them; a Gram matrix is the sum of what they have, and
// of every product on the small side each computes some panels of rows (products.h). So each does 1/g of the work, and no
// rank has the matrix.
#pragma once

#include <cstdint>
#include <span>

#include "core/device/tensor.h"

namespace muonp::optim::spectral {

class Sharers {
 public:
  virtual ~Sharers() = default;
  virtual int size() const = 0;
  virtual int rank() const = 0;  // among them
  // sends[i] goes to sharer i and receives[i] comes from it, of one size and type each; what is for this rank itself is not
  // looked at. Called by all sharers alike.
  virtual void exchange(std::span<const core::Tensor> sends, std::span<const core::Tensor> receives) = 0;
};

// The sum over sharers, the same bits on all of them. Collective; and what all of them together send for so many sums.
double sum_over(core::Device& device, Sharers& sharers, double value);
inline std::int64_t bytes_of_sums(std::int64_t sharers, int sums) { return 8 * sums * sharers * (sharers - 1); }

// Whether so many ranks can share a matrix whose shorter side is `side`: each has at least a row of every product.
inline bool can_share(std::int64_t side, int sharers) { return 2 * std::int64_t{sharers} <= side; }

// Where the k-th of `parts` equal parts of a length begins.
inline std::int64_t part_begin(std::int64_t length, std::int64_t parts, std::int64_t k) { return length * k / parts; }

// What sharing takes.
struct SharedWork {
  int exchanges = 0;      // calls of Sharers::exchange, at most
  std::int64_t sent = 0;  // bytes that all sharers send together
};

}  // namespace muonp::optim::spectral
