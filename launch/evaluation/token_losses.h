// What a batch of texts costs a model, text by text.
#pragma once

#include <vector>

#include "launch/inference/passes.h"

namespace muonp::launch {

// By sequence of the batch, the sum of the cross-entropies of its counted targets [nats].
std::vector<double> summed_losses(const Subject& subject, Passes& passes, const models::TokenBatch& batch);

}  // namespace muonp::launch
