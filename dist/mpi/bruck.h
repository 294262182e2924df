// The order of messages in which every rank gathers a block from every other in few rounds, each with one message to
// one rank and one from another: J. Bruck, C.-T. Ho, S. Kipnis, E. Upfal, D. Weathersby, "Efficient algorithms for
// all-to-all communications in multiport message-passing systems", IEEE Transactions on Parallel and Distributed
// Systems 8(11), 1997.
#pragma once

#include <vector>

namespace muonp::dist {

// A rank counts blocks from its own: block i is that of rank (rank + i) mod size. So what it holds is at any time its
// blocks 0, 1, ..., and both what it sends and what it receives in a round lie side by side.
struct BruckRound {
  int to, from;  // other ranks
  int count;     // blocks in each of the two messages
  int held;      // blocks of before: this rank's 0 ... count − 1 go out, its held ... held + count − 1 come in
};

// ⌈log2 size⌉ rounds, none for one rank; no two of them with the same `to` or `from`. Blocks sent by a rank: size − 1.
std::vector<BruckRound> bruck_rounds(int size, int rank);

}  // namespace muonp::dist
