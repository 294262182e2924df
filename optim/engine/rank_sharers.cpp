#include "optim/engine/rank_sharers.h"

#include "core/base/index.h"

namespace muonp::optim {

void RankSharers::exchange(std::span<const core::Tensor> sends, std::span<const core::Tensor> receives) {
  std::vector<dist::Transfer> out, in;
  for (int i = 0; i < core::to_int(sends.size()); ++i) {
    if (i == rank()) continue;
    const int peer = core::to_int(ranks_.begin) + i;
    out.push_back({peer, dist::Span(sends[core::at(i)])});
    in.push_back({peer, dist::Span(receives[core::at(i)])});
  }
  waits_.time([&] { async_.wait(async_.submit([&] { communicator_.exchange(out, in); })); });
  ++exchanges_;
}

void RankSharers::idle_until(int exchanges) {
  MUONP_ASSERT(exchanges_ <= exchanges, "{} exchanges where {} are planned", exchanges_, exchanges);
  while (exchanges_ < exchanges) exchange({}, {});
}

}  // namespace muonp::optim
