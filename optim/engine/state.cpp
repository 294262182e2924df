#include "optim/engine/state.h"

#include "core/device/host_view.h"
#include "core/device/offload.h"

namespace muonp::optim {

void StateTensor::read(core::Device& device, void* to) const {
  if (!narrow.narrow()) return core::read_tensor(device.queue(), data, to);
  narrow.read(device, static_cast<float*>(to));
}

void StateTensor::write(core::Device& device, const std::function<void(const StateTensor& part, float* to)>& source) const {
  if (!narrow.narrow()) {
    const core::HostView host(device.queue(), data, core::Access::write);
    source(*this, host.data<float>());
    return host.upload();
  }
  std::vector<float> values;
  for (std::int64_t begin = 0, end = 0; begin < interval.count(); begin = end) {
    end = state_piece_end(interval.begin, interval.count(), begin);
    const StateTensor part{name, shape, {interval.begin + begin, interval.begin + end}, {}, narrow.part(begin, end - begin)};
    values.resize(static_cast<std::size_t>(end - begin));
    source(part, values.data());
    part.narrow.write(device, values.data());
  }
}

std::vector<StoredState> stored_states(core::Device& device, const GroupConfig& group, const std::string& parameter,
                                       dist::Interval mine, const std::string& suffix, bool in_host_memory) {
  std::vector<StoredState> states;
  const std::vector<StateSpec> specs = group.rule->states_of(Home::shard);
  const std::vector<Storage> storages = group.storages();
  for (std::size_t s = 0; s < specs.size(); ++s)
    states.emplace_back(device, storages[s], fmt::format("{}/{}{}", parameter, specs[s].name, suffix), mine.begin,
                        mine.count(), in_host_memory);
  return states;
}

StateTensor state_tensor(const StoredState& state, const core::Shape& shape) {
  const dist::Interval interval{state.first(), state.first() + state.size()};
  if (state.narrow()) return {state.name(), shape, interval, {}, state};
  return {state.name(), shape, interval, state.values()};
}

}  // namespace muonp::optim
