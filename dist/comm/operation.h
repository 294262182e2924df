// A collective operation as data: what decorators record, what ranks compare, what error messages name.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dist/comm/communicator.h"

namespace muonp::dist {

enum class OperationKind : std::uint8_t {
  barrier,
  broadcast,
  all_reduce,
  all_reduce_values,  // of doubles on the host
  reduce_scatter,
  all_gather,
  exchange,
  all_gather_bytes
};
inline constexpr int kOperationKinds = 8;
std::string_view name_of(OperationKind kind);
std::string_view name_of(Reduce reduce);

struct Operation {
  OperationKind kind = OperationKind::barrier;
  std::int64_t count = 0;  // elements of the whole span; bytes of this rank's string for all_gather_bytes
  core::Dtype dtype = core::Dtype::float32;
  int root = 0;
  Reduce reduce = Reduce::sum;
  std::span<const Transfer> sends = {}, receives = {};  // of an exchange
};

// "all_reduce(sum) of 100 float32".
std::string describe(const Operation& operation);

// An even cut of `count` elements into `parts`: the first count % parts of them are one element longer.
struct Cut {
  std::int64_t begin, count;
};
Cut cut(std::int64_t count, int parts, int part);

// Data of which a rank holds so few bytes that messages cost it more by their number than by their length. By pairs an
// all_reduce of B bytes takes 2(N−1) messages and 2(N−1)/N · B bytes of a rank, by Bruck's all-gather (dist/mpi/bruck.h)
// ⌈log2 N⌉ messages and (N−1) · B bytes. About N−1 times the latency is saved for N−1 times B, so the number of ranks does
// not matter: at 1 µs and 10 GB/s B may be 10 KB. An all_gather sends the same bytes either way, but Bruck's copies them
// once more, which costs less than a message up to about as much. Within the limit 10,000 ranks need 40 MB to gather.
inline constexpr std::int64_t kShortBytes = 4096;
inline bool is_short(std::int64_t bytes) { return bytes <= kShortBytes; }

// Bytes that `rank` of `size` sends to others; N = size, B = bytes of the whole span, N divides its count:
//   reduce_scatter, all_gather   (N−1)/N · B
//   all_reduce                   2 (N−1)/N · B, or (N−1) · B where B is short
//   broadcast                    2 (N−1)/N · B from the root (scatter, then all-gather)
//                                (N−2)/N · B from others
//   exchange                     sum of the sends to other ranks
//   all_reduce of doubles        (N−1) · B
//   all_gather_bytes             (N−1) · (8 + length of this rank's string)  (as if no rank passed on those of others:
//                                so of one rank where lengths are equal, and always the sum of all ranks)
//   barrier                      0
// and the exact count of the uneven cut above otherwise. The MPI form sends these bytes and no others.
std::int64_t bytes_sent(const Operation& operation, int rank, int size);

// Preconditions that one rank can check alone: ranks in range, memory where there are elements, slices of
// equal length. InternalError names the one that is broken.
void validate(const Operation& operation, int rank, int size);
void validate(Span data);

// The first difference between what the ranks are about to do, or an empty string when it fits together.
std::string mismatch(std::span<const Operation> by_rank);

// To send an operation to other ranks. decode() fills `transfers` with memory that the result refers to;
// spans carry counts and types, no data.
std::string encode(const Operation& operation);
Operation decode(const std::string& encoded, std::vector<Transfer>& transfers);

}  // namespace muonp::dist
