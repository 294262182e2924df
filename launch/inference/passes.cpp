#include "launch/inference/passes.h"

#include <algorithm>

namespace muonp::launch {

bool Passes::meet(bool goes_on) {
  double values[3] = {goes_on ? 1.0 : 0.0, stop_requested() ? 1.0 : 0.0, static_cast<double>(new_items_)};
  subject_.communicator.all_reduce(std::span<double>(values), dist::Reduce::sum);
  new_items_ = 0;
  if (values[1] > 0) throw Interrupted();
  if (values[2] > 0) {
    done_ += static_cast<std::int64_t>(values[2]);
    if (on_items_) on_items_(done_, items_);
  }
  return values[0] > 0;
}

core::Tape Passes::open() {
  meet(true);
  return subject_.open_pass ? subject_.open_pass() : core::Tape(subject_.device, false);
}

void Passes::finish() {
  while (meet(false))
    if (subject_.passes_together) pass_along();
}

// Any forward pass acquires the same weights in the same order.
void Passes::pass_along() {
  const core::Tensor token = core::Tensor::on_host({1, 1}, core::Dtype::int32);
  token.data<std::int32_t>()[0] = 0;
  core::Tape tape = subject_.open_pass();
  subject_.model.next_token_logits(tape, token);
}

std::vector<double> numbers_of_items(const Subject& subject, std::int64_t items, std::int64_t batch, const OnItems& on_items,
                                     const WorkOnItems& work) {
  std::vector<double> numbers(static_cast<std::size_t>(items), 0.0);
  run_side_by_side(subject, items, on_items, [&](Passes& passes) {
    const int rank = subject.communicator.rank(), ranks = subject.communicator.size();
    for (std::int64_t first = rank * batch; first < items; first += ranks * batch) {
      const std::int64_t count = std::min(batch, items - first);
      work(passes, first, std::span(numbers).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)));
      passes.add_done(count);
    }
  });
  subject.communicator.all_reduce(std::span(numbers), dist::Reduce::sum);  // zeros but on one rank
  return numbers;
}

}  // namespace muonp::launch
