#include "dist/zero/exact_transport.h"

#include <algorithm>

#include "core/base/index.h"
#include "core/base/math.h"

namespace muonp::dist {

using core::at;
using core::Category;
using core::Dtype;
using core::Tensor;

std::optional<Messages> ExactTransport::gather(int wave) {
  const bool whole = !parameters_.zero().keeps_slice;
  Messages messages;
  for (int task : plan_.wave(wave)) {
    const Tensor& piece = pieces_[at(task)];
    if (!whole && piece.size() > 0) messages.sends.push_back({plan_.owner(task), Span(piece)});
    if (!is_mine(task)) continue;
    if (whole) {
      gathering_.push_back({task, piece.view(shape_of(task)), Tensor()});
      continue;
    }
    const Tensor in = Tensor::empty(device_, shape_of(task), Dtype::float32, Category::exchange);
    for (const auto& [rank, part] : pieces_of(task))
      messages.receives.push_back({rank, Span(in.flat(part.begin, part.count()))});
    gathering_.push_back({task, in, Tensor()});
  }
  if (whole) return std::nullopt;
  return messages;
}

std::vector<OwnedMatrix> ExactTransport::received(int wave) {
  std::vector<OwnedMatrix> mine;
  for (int task : plan_.wave(wave)) {
    if (!is_mine(task)) continue;
    const auto gathered = std::ranges::find(gathering_, task, &OwnedMatrix::task);
    mine.push_back(*gathered);
    gathering_.erase(gathered);
  }
  return mine;
}

std::vector<OwnedMatrix> ExactTransport::take(int wave) {
  std::vector<OwnedMatrix> mine = received(wave);
  for (OwnedMatrix& matrix : mine)
    matrix.out = Tensor::empty(device_, shape_of(matrix.task), Dtype::float32, Category::exchange);
  return mine;
}

Messages ExactTransport::scatter(int wave, std::span<const OwnedMatrix> mine) {
  Messages messages;
  for (int task : plan_.wave(wave))
    if (const Tensor& piece = pieces_[at(task)]; piece.size() > 0)
      messages.receives.push_back({plan_.owner(task), Span(piece)});
  for (const OwnedMatrix& matrix : mine)
    for (const auto& [rank, part] : pieces_of(matrix.task))
      messages.sends.push_back({rank, Span(matrix.out.flat(part.begin, part.count()))});
  return messages;
}

const core::Shape& ExactTransport::shape_of(int task) const {
  return parameters_.plan().parameters()[at(plan_.tasks()[at(task)].parameter)].shape;
}

std::vector<std::pair<int, Interval>> ExactTransport::pieces_of(int task) const {
  const ShardPlan& shards = parameters_.plan();
  const int parameter = plan_.tasks()[at(task)].parameter;
  const bool whole = !parameters_.zero().keeps_slice;
  const Interval ranks = whole ? Interval{0, shards.world_size()} : shards.ranks_of(parameter);
  std::vector<std::pair<int, Interval>> pieces;
  for (int r = core::to_int(ranks.begin); r < ranks.end; ++r)
    pieces.emplace_back(r, whole ? Interval{0, shards.in_bucket(parameter).count()} : shards.piece(parameter, r));
  return pieces;
}

std::int64_t ExactTransport::buffer_bytes(const ShardPlan& shards, const OwnerPlan& owners, int rank, ZeroStage zero,
                                          const Workspace& workspace) {
  // Bytes of one wave's inputs (= outputs) on this rank.
  std::vector<std::int64_t> wave(static_cast<std::size_t>(owners.waves()), 0);
  for (int w = 0; w < owners.waves(); ++w)
    for (int task : owners.wave(w))
      if (owners.owner(task) == rank)
        wave[core::at(w)] += shards.in_bucket(owners.tasks()[core::at(task)].parameter).count() * 4;
  const std::int64_t inputs = zero.keeps_slice ? 1 : 0;
  std::int64_t most = 0;
  for (std::size_t w = 0; w < wave.size(); ++w) {
    const std::int64_t before = w > 0 ? wave[w - 1] : 0, after = w + 1 < wave.size() ? wave[w + 1] : 0;
    // While wave w is computed: its inputs and outputs, the inputs of the next, the outputs of the last one.
    most = std::max(most, before + wave[w] + inputs * (wave[w] + after) + workspace(core::to_int(w)));
  }
  return most;
}

}  // namespace muonp::dist
