// Sets of messages between ranks, of any length. Internal to dist: includes mpi.h.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "dist/mpi/requests.h"

namespace muonp::dist {

inline constexpr int kInFlight = 2;  // rounds of messages under way at once

struct MpiMessage {
  int peer;
  char* data;
  std::int64_t bytes;
  MpiMessage part(std::int64_t begin, std::int64_t most) const {
    return {peer, data + begin, std::clamp<std::int64_t>(bytes - begin, 0, most)};
  }
};

// All messages, in rounds of limited length, so that progress shows and counts are small. Both sides cut a message alike,
// and MPI keeps the order of messages between two ranks. Empty ones are not sent.
void transfer(MpiChannel& channel, std::span<const MpiMessage> sends, std::span<const MpiMessage> receives);

// Every rank's block to every other in ⌈log2 size⌉ messages of a rank (dist/mpi/bruck.h, also for the order of blocks: this
// rank's is the first). Block i is bytes begins[i] to begins[i + 1] of `blocks`; its length is known to all.
void gather_blocks(MpiChannel& channel, std::span<const std::int64_t> begins, char* blocks);

// Blocks of one length: where each begins, and where the last ends.
std::vector<std::int64_t> equal_blocks(int size, std::int64_t bytes);

// Returns when every rank is here; as many messages, all empty.
void meet_all(MpiChannel& channel);

}  // namespace muonp::dist
