// In how many bits a state of the optimizer is kept between steps, and what it then is. A rule computes in float32 and knows
// nothing of it: the engine decodes a state before a phase of the rule, a piece at a time, and encodes what the rule has
// made of it (optim/storage/stored_state.h).
//
//   float32    as it is
//   bfloat16   the upper half of a float32
//   int8       in blocks of kStateBlock elements, counted from the first one of the flattened parameter, with M the largest
//              magnitude of the block, as float32, and a byte an element:
//                moment          x = ±M (k/127)²,  k in [0, 127] and the sign in bit 7
//                second_moment   v = M (k/255)⁴,   k in [0, 255]; 0 for v = 0 alone
//
// A root of each ratio is what the levels are even in: a linear map would make nothing of whatever is below M/254, and steps
// of AdamW are quotients of two such numbers. √v has the range that a moment has, about 2^−16 to 1. Where a rank keeps a
// part of a block, the part has an M of its own.
//
// Rounding, to one of the two neighbours in value:
//
//   nearest      ties to the even bfloat16, to the larger code. A change below half a step is lost, in every step again: an
//                average whose decay is closer to 1 than that stands still.
//   stochastic   the upper one with the probability that makes the expectation exact, but for nonzero second moments below
//                the smallest code, which become that. The random number is a function of the state's name, the step and
//                the element's place in the parameter, not of the number of ranks.
//
// A block with an element that is not finite is NaN as a whole.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace muonp::optim {

enum class StateDtype : std::uint8_t { float32, bfloat16, int8 };
inline constexpr std::string_view kStateDtypes[] = {"float32", "bfloat16", "int8"};  // in the order of the enum
inline constexpr std::string_view kStateRoundings[] = {"stochastic", "nearest"};

// What the values of a state are, and so how they may be kept.
enum class Content : std::uint8_t {
  exact,         // float32 always: weights, eigenvectors, numbers of a row or a matrix
  moment,        // gradients and averages of them
  second_moment  // averages of squares, at least 0
};

inline constexpr std::int64_t kStateBlock = 256;  // elements that share a scale

struct Storage {
  StateDtype dtype = StateDtype::float32;
  Content content = Content::exact;
  bool stochastic = true;
  bool narrow() const { return dtype != StateDtype::float32 && content != Content::exact; }
};

// Blocks that elements [first, first + count) of a flattened parameter lie in.
std::int64_t state_blocks(std::int64_t first, std::int64_t count);
// Of these elements, exactly, in one state or all; and what an element takes in the mean.
std::int64_t stored_bytes(const Storage& storage, std::int64_t first, std::int64_t count);
std::int64_t stored_bytes(std::span<const Storage> states, std::int64_t first, std::int64_t count);
double stored_bytes_per_element(const Storage& storage);

// Elements [begin, end) of a state are computed on together (compute_on_states) where they begin at `begin`: pieces of
// at most core::kOffloadPiece elements that end at multiples of it, counted from the parameter's first element.
std::int64_t state_piece_end(std::int64_t first, std::int64_t count, std::int64_t begin);

// Most bytes that compute_on_states() takes on the device at once for `tensors` float32 tensors and these states of elements
// [first, first + count). in_host_memory: all of them are kept there.
std::int64_t state_workspace_bytes(std::int64_t tensors, std::span<const Storage> states, std::int64_t first,
                                   std::int64_t count, bool in_host_memory);

}  // namespace muonp::optim
