#include "models/model.h"

namespace muonp::models {

KeyValueCache KeyValueCache::sequence(std::int64_t b) const {
  const auto row = [b](const core::Tensor& all) {
    return all.flat(b * all.size() / all.dim(0), all.size() / all.dim(0)).view({1, all.dim(1), all.dim(2)});
  };
  KeyValueCache one{{}, capacity, {lengths[core::at(b)]}};
  for (const Layer& layer : layers) one.layers.push_back({row(layer.keys), row(layer.values)});
  return one;
}

}  // namespace muonp::models
