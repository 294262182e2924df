#include "launch/evaluation/validation.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/units.h"
#include "launch/evaluation/token_losses.h"

namespace muonp::launch {

using core::Tensor;

TaskNumbers evaluate_sequences(const Subject& subject, const core::ValidationBatches& data, std::int64_t sequences,
                               std::int64_t batch, const OnItems& on_items) {
  const std::int64_t time = data.sequence();
  const auto span = [](const Tensor& ids) { return ids ? ids.span<std::int32_t>() : std::span<std::int32_t>(); };
  double counted = 0;
  const auto read = [&](Passes& passes, std::int64_t first, std::span<double> to) {
    const std::int64_t rows = std::ssize(to);
    const auto ids = [&] { return Tensor::on_host({rows, time}, core::Dtype::int32); };
    const models::TokenBatch texts{ids(), ids(), data.packed() ? ids() : Tensor()};
    data.fill_batch(first, rows, {span(texts.inputs), span(texts.targets), span(texts.begins)});
    counted += static_cast<double>(core::counted_targets(span(texts.targets)));
    std::ranges::copy(summed_losses(subject, passes, texts), to.begin());
  };
  const std::vector<double> sums = numbers_of_items(subject, sequences, batch, on_items, read);
  subject.communicator.all_reduce(std::span(&counted, 1), dist::Reduce::sum);
  const double loss = core::plain_nan(std::accumulate(sums.begin(), sums.end(), 0.0) / counted);
  return {{"loss", loss}, {"perplexity", std::exp(loss)}, {"tokens", counted, true}};
}

}  // namespace muonp::launch
