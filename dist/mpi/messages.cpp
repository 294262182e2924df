#include "dist/mpi/messages.h"

#include "core/base/index.h"
#include "dist/mpi/bruck.h"

namespace muonp::dist {

namespace {

constexpr std::int64_t kMessageBytes = std::int64_t{4} << 20;  // of the longest message

std::vector<BruckRound> rounds_of(const MpiChannel& channel) {
  return bruck_rounds(channel.session.size(), channel.session.rank());
}

}  // namespace

void transfer(MpiChannel& channel, std::span<const MpiMessage> sends, std::span<const MpiMessage> receives) {
  std::int64_t longest = 0;
  for (const auto& list : {sends, receives})
    for (const MpiMessage& m : list) longest = std::max(longest, m.bytes);
  MpiRequests even(channel), odd(channel);
  MpiRequests* const flight[kInFlight] = {&even, &odd};
  std::int64_t round = 0;
  for (std::int64_t begin = 0; begin < longest; begin += kMessageBytes, ++round) {
    MpiRequests& requests = *flight[round % kInFlight];
    requests.wait();
    for (const MpiMessage& m : receives)
      if (const MpiMessage p = m.part(begin, kMessageBytes); p.bytes > 0) requests.receive(p.data, p.bytes, p.peer);
    for (const MpiMessage& m : sends)
      if (const MpiMessage p = m.part(begin, kMessageBytes); p.bytes > 0) requests.send(p.data, p.bytes, p.peer);
  }
  flight[round % kInFlight]->wait();
  flight[(round + 1) % kInFlight]->wait();
}

void gather_blocks(MpiChannel& channel, std::span<const std::int64_t> begins, char* blocks) {
  for (const BruckRound& r : rounds_of(channel)) {
    const auto begin = [&](int block) { return begins[core::at(block)]; };
    const MpiMessage out{r.to, blocks, begin(r.count)};
    const MpiMessage in{r.from, blocks + begin(r.held), begin(r.held + r.count) - begin(r.held)};
    transfer(channel, {&out, 1}, {&in, 1});
  }
}

std::vector<std::int64_t> equal_blocks(int size, std::int64_t bytes) {
  std::vector<std::int64_t> begins;
  for (int i = 0; i <= size; ++i) begins.push_back(i * bytes);
  return begins;
}

// Who has heard of `held` ranks tells the next that they are here; with names or not, because a time-out calls the roll.
void meet_all(MpiChannel& channel) {
  for (const BruckRound& r : rounds_of(channel)) {
    MpiRequests requests(channel);
    requests.receive(nullptr, 0, r.from);
    requests.send(nullptr, 0, r.to);
    requests.wait();
  }
}

}  // namespace muonp::dist
