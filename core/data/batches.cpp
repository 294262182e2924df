#include "core/data/batches.h"

#include <algorithm>

#include "core/base/error.h"

namespace muonp::core {
namespace {

void require_alike(const Sequences& a, const Sequences& b) {
  MUONP_ASSERT(a.length() == b.length() && a.packed() == b.packed(), "sequences of {} and {}", a.length(), b.length());
}

std::vector<MixedOrder::Part> shares_of(const std::vector<TrainBatches::Part>& parts) {
  std::vector<MixedOrder::Part> shares;
  for (const TrainBatches::Part& p : parts) shares.push_back({p.sequences->count(), p.weight});
  return shares;
}

// read(i, to) for i < count, into one sequence after the other.
template <class Read>
void fill(std::int64_t count, std::int64_t length, bool packed, const SequenceSpans& to, const Read& read) {
  MUONP_ASSERT(std::ssize(to.inputs) == count * length && std::ssize(to.targets) == count * length &&
                   std::ssize(to.begins) == (packed ? count * length : 0),
               "{} inputs, {} targets and {} begins for {} sequences of {}", to.inputs.size(), to.targets.size(),
               to.begins.size(), count, length);
  for (std::int64_t i = 0; i < count; ++i) read(i, to.part(i * length, length));
}

}  // namespace

TrainBatches::TrainBatches(std::vector<Part> parts, std::int64_t batch, std::uint64_t seed, bool shuffle)
    : parts_(std::move(parts)), order_(shares_of(parts_), batch, seed, shuffle) {
  for (const Part& p : parts_) require_alike(*parts_.front().sequences, *p.sequences);
}

std::int64_t TrainBatches::counted(std::int64_t step) const {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < order_.batch(); ++i) {
    const MixedOrder::Place at = order_.place(step, i);
    count += parts_[at.part].sequences->counted(at.index);
  }
  return count;
}

void TrainBatches::fill_batch(std::int64_t step, std::int64_t first, std::int64_t count, const SequenceSpans& to) const {
  fill(count, sequence(), packed(), to, [&](std::int64_t i, const SequenceSpans& one) {
    const MixedOrder::Place at = order_.place(step, first + i);
    parts_[at.part].sequences->read(at.index, one);
  });
}

ValidationBatches::ValidationBatches(std::vector<SequencesHandle> parts) : parts_(std::move(parts)) {
  MUONP_ASSERT(!parts_.empty(), "no parts");
  for (const SequencesHandle& p : parts_) {
    require_alike(*parts_.front(), *p);
    count_ += p->count();
  }
}

void ValidationBatches::fill_batch(std::int64_t first, std::int64_t count, const SequenceSpans& to) const {
  MUONP_ASSERT(first >= 0 && count >= 0 && first + count <= count_, "[{}, {}) of {} sequences", first, first + count,
               count_);
  fill(count, sequence(), packed(), to, [&](std::int64_t i, const SequenceSpans& one) {
    std::int64_t at = first + i;
    auto part = parts_.begin();
    for (; at >= (*part)->count(); ++part) at -= (*part)->count();
    (*part)->read(at, one);
  });
}

std::int64_t counted_targets(std::span<const std::int32_t> targets) {
  return std::ranges::count_if(targets, [](std::int32_t id) { return id >= 0; });
}

}  // namespace muonp::core
