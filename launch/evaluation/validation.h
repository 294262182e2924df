// The loss of sequences of data, as training validates it.
#pragma once

#include "core/data/batches.h"
#include "launch/evaluation/task.h"

namespace muonp::launch {

// loss (mean over the counted targets; NaN where there is none), perplexity and tokens of the first `sequences`, in batches
// of `batch` that the ranks share. Collective.
TaskNumbers evaluate_sequences(const Subject& subject, const core::ValidationBatches& data, std::int64_t sequences,
                               std::int64_t batch, const OnItems& on_items);

}  // namespace muonp::launch
