#include "optim/engine/state_reader.h"

#include <algorithm>
#include <vector>

namespace muonp::optim {

void StateReader::exactly(const StateTensor& tensor, const std::string& name, float* to) const {
  pieces_.read_float(name, tensor.shape, core::Dtype::float32, tensor.interval.begin, tensor.interval.end, to);
}

bool StateReader::has(const StateTensor& tensor, const std::string& name) const {
  return pieces_.contains(name) && pieces_.shape(name) == tensor.shape;
}

// Of "<prefix>#0", "<prefix>#1", ...; false if there are none. One rank's values are held beside the sum.
bool StateReader::mean_over_ranks(const StateTensor& tensor, const std::string& prefix, float* to) const {
  const auto count = static_cast<std::size_t>(tensor.interval.count());
  std::vector<float> of_rank(count);
  int ranks = 0;
  for (; has(tensor, fmt::format("{}#{}", prefix, ranks)); ++ranks) {
    exactly(tensor, fmt::format("{}#{}", prefix, ranks), of_rank.data());
    for (std::size_t i = 0; i < count; ++i) to[i] = ranks == 0 ? of_rank[i] : to[i] + of_rank[i];
  }
  if (ranks == 0) return false;
  std::transform(to, to + count, to, [ranks](float sum) { return sum / static_cast<float>(ranks); });
  return true;
}

void StateReader::read(const StateTensor& tensor, float* to) const {
  const std::size_t slash = tensor.name.rfind('/'), mark = tensor.name.rfind('#');
  const bool own = mark != std::string::npos && mark > slash;
  if (has(tensor, tensor.name) && (same_ || !own)) return exactly(tensor, tensor.name, to);
  const std::string parameter = tensor.name.substr(0, slash + 1);
  const std::string what = tensor.name.substr(slash + 1, own ? mark - slash - 1 : std::string::npos);
  const auto zero = [&] { std::fill_n(to, tensor.interval.count(), 0.0f); };

  if (what == "basis") return zero();
  if (what == "weights") return exactly(tensor, parameter + "master", to);
  const bool estimate = what == "estimate" || what == "mean_estimate";
  if (estimate && has(tensor, parameter + "mean_estimate")) return exactly(tensor, parameter + "mean_estimate", to);
  const std::string state = parameter + (estimate ? "momentum" : what);
  if (mean_over_ranks(tensor, state, to)) return;
  if (estimate && !pieces_.contains(state)) return zero();
  exactly(tensor, state, to);
}

}  // namespace muonp::optim
