#include "dist/comm/wave_pipeline.h"

#include "core/base/math.h"

namespace muonp::dist {

WavePipeline::WavePipeline(WaveTransport& transport, Communicator& communicator, AsyncQueue& async)
    : transport_(transport),
      communicator_(communicator),
      async_(async),
      flights_(static_cast<std::size_t>(transport.waves())),
      drain_(async) {}

AsyncQueue::Ticket WavePipeline::send(const Messages& messages) {
  return async_.submit([this, &messages] { communicator_.exchange(messages.sends, messages.receives); });
}

void WavePipeline::start(int wave) {
  if (wave >= core::to_int(flights_.size())) return;
  std::optional<Messages> there = transport_.gather(wave);
  if (!there) return;
  at(wave).there = *std::move(there);
  at(wave).gathered = send(at(wave).there);
}

bool WavePipeline::next(Wave& wave) {
  const int waves = core::to_int(flights_.size());
  wave = Wave{.index = next_, .mine = {}, .arrived = {}};
  if (waves == 0 || next_ > waves) {
    drain_.done();
    return false;
  }
  if (next_ == waves) return true;
  if (next_ == 0) start(0);
  start(next_ + 1);
  async_.wait(at(next_).gathered);
  wave.mine = transport_.take(next_);
  return true;
}

void WavePipeline::give_back(Wave& wave) {
  if (wave.index < core::to_int(flights_.size())) {
    Flight& flight = at(wave.index);
    flight.computed = std::move(wave.mine);
    for (OwnedMatrix& matrix : flight.computed) matrix.in = core::Tensor();
    flight.back = transport_.scatter(wave.index, flight.computed);
    flight.scattered = send(flight.back);
  }
  wave.mine.clear();
  if (wave.index > 0) {
    Flight& before = at(wave.index - 1);
    async_.wait(before.scattered);
    before.computed.clear();
    transport_.arrive(wave.index - 1);
    const std::span<const int> tasks = transport_.tasks(wave.index - 1);
    wave.arrived.assign(tasks.begin(), tasks.end());
  }
  ++next_;
}

}  // namespace muonp::dist
