// How often one of several answers is right.
#pragma once

#include <cstdint>

namespace muonp::launch {

// The probability that at least one of k answers is right, drawn without replacement from n of which c are:
// 1 − C(n − c, k) / C(n, k), the unbiased estimate of pass@k (Chen et al. 2021, "Evaluating Large Language Models Trained
// on Code"). 1 ≤ k ≤ n, 0 ≤ c ≤ n.
double pass_at_k(std::int64_t n, std::int64_t c, std::int64_t k);

}  // namespace muonp::launch
