#include "dist/zero/exact_transport.h"

#include <algorithm>

#include "core/base/index.h"
#include "core/base/math.h"
#include "dist/zero/runs.h"

namespace muonp::dist {

using core::at;
using core::Category;
using core::Dtype;
using core::Tensor;

std::vector<ExactTransport::Run> ExactTransport::runs(int task, int owner, Interval piece) const {
  std::vector<Run> all;
  std::int64_t before = 0;
  for (const Rectangle& where : plan_.share(task, owner)) {
    const Interval elements{where.before(piece.begin), where.before(piece.end)};
    if (!elements.empty()) all.push_back({where, elements, before + elements.begin});
    before += where.elements();
  }
  return all;
}

Tensor ExactTransport::message_of(const Run& run, const Tensor& piece, Interval kept) const {
  if (run.where.contiguous()) return piece.flat(run.where.position(run.elements.begin) - kept.begin, run.elements.count());
  return Tensor::empty(device_, {run.elements.count()}, Dtype::float32, Category::exchange);
}

// This rank's piece to those that share a matrix, and what it shares from all.
void ExactTransport::share_out(int task, Messages& messages) {
  const Interval kept = kept_of(task), group = plan_.group(task);
  for (int owner = core::to_int(group.begin); owner < group.end; ++owner)
    for (const Run& run : runs(task, owner, kept)) {
      const Tensor message = message_of(run, pieces_[at(task)], kept);
      if (!run.where.contiguous()) {
        pack(device_.queue(), run.where, run.elements, pieces_[at(task)].data<float>(), kept.begin, message.data<float>());
        going_.push_back({task, run, message});
      }
      messages.sends.push_back({owner, Span(message)});
    }
  if (!is_mine(task)) return;
  const Tensor in = Tensor::empty(device_, shape_of(task), Dtype::float32, Category::exchange);
  for (const auto& [rank, part] : pieces_of(task))
    for (const Run& run : runs(task, parameters_.rank(), part))
      messages.receives.push_back({rank, Span(in.flat(run.before, run.elements.count()))});
  gathering_.push_back({task, in, Tensor()});
}

// At stage 0: out of the whole that is here.
Tensor ExactTransport::whole_share(int task) {
  const Tensor in = Tensor::empty(device_, shape_of(task), Dtype::float32, Category::exchange);
  for (const Run& run : runs(task, parameters_.rank(), kept_of(task)))
    pack(device_.queue(), run.where, run.elements, pieces_[at(task)].data<float>(), 0, in.data<float>() + run.before);
  return in;
}

void ExactTransport::share_back(int task, Messages& messages) {
  const Interval kept = kept_of(task), group = plan_.group(task);
  for (int owner = core::to_int(group.begin); owner < group.end; ++owner)
    for (const Run& run : runs(task, owner, kept)) {
      const Tensor message = message_of(run, pieces_[at(task)], kept);
      if (!run.where.contiguous()) coming_.push_back({task, run, message});
      messages.receives.push_back({owner, Span(message)});
    }
}

void ExactTransport::arrive(int wave) {
  for (const Packed& p : coming_)
    if (const std::vector<int>& tasks = plan_.wave(wave); std::ranges::binary_search(tasks, p.task))
      unpack(device_.queue(), p.run.where, p.run.elements, p.message.data<float>(), pieces_[at(p.task)].data<float>(),
             kept_of(p.task).begin);
  std::erase_if(coming_, [&](const Packed& p) { return std::ranges::binary_search(plan_.wave(wave), p.task); });
}

ExactTransport::Laid ExactTransport::lay_out(int wave) const {
  WaveLayout layout = layout_of(parameters_.plan(), plan_, parameters_.rank(), wave);
  const Tensor memory = Tensor::empty(device_, {layout.elements}, Dtype::float32, Category::exchange);
  return {std::move(layout), memory};
}

Tensor ExactTransport::place_in(const Laid& laid, int task) const {
  const core::Shape shape = shape_of(task);
  return laid.memory.flat(laid.layout.begins.at(task), core::element_count(shape)).view(shape);
}

std::optional<Messages> ExactTransport::gather(int wave) {
  const bool whole = !parameters_.zero().keeps_slice;
  const Laid laid = whole ? Laid{} : lay_out(wave);
  Messages messages;
  for (int task : plan_.wave(wave)) {
    if (plan_.is_shared(task)) {
      if (!whole)
        share_out(task, messages);
      else if (is_mine(task))
        gathering_.push_back({task, whole_share(task), Tensor()});
      continue;
    }
    const Tensor& piece = pieces_[at(task)];
    if (!whole && piece.size() > 0) messages.sends.push_back({plan_.owner(task), Span(piece)});
    if (!is_mine(task)) continue;
    if (whole) {
      gathering_.push_back({task, piece.view(shape_of(task)), Tensor()});
      continue;
    }
    const Tensor in = place_in(laid, task);
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
  std::erase_if(going_, [&](const Packed& p) { return std::ranges::binary_search(plan_.wave(wave), p.task); });
  const Laid laid = lay_out(wave);
  for (OwnedMatrix& matrix : mine)
    matrix.out = plan_.is_shared(matrix.task)
                     ? Tensor::empty(device_, shape_of(matrix.task), Dtype::float32, Category::exchange)
                     : place_in(laid, matrix.task);
  return mine;
}

Messages ExactTransport::scatter(int wave, std::span<const OwnedMatrix> mine) {
  Messages messages;
  for (int task : plan_.wave(wave))
    if (plan_.is_shared(task))
      share_back(task, messages);
    else if (const Tensor& piece = pieces_[at(task)]; piece.size() > 0)
      messages.receives.push_back({plan_.owner(task), Span(piece)});
  for (const OwnedMatrix& matrix : mine)
    for (const auto& [rank, part] : pieces_of(matrix.task)) {
      if (!plan_.is_shared(matrix.task)) {
        messages.sends.push_back({rank, Span(matrix.out.flat(part.begin, part.count()))});
        continue;
      }
      for (const Run& run : runs(matrix.task, parameters_.rank(), part))
        messages.sends.push_back({rank, Span(matrix.out.flat(run.before, run.elements.count()))});
    }
  return messages;
}

core::Shape ExactTransport::shape_of(int task) const {
  if (plan_.is_shared(task)) {
    std::int64_t elements = 0;
    for (const Rectangle& part : plan_.share(task, parameters_.rank())) elements += part.elements();
    return {elements};
  }
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
  // Bytes of one wave's inputs (= outputs) on this rank, and of what it packs of its pieces.
  std::vector<std::int64_t> wave(static_cast<std::size_t>(owners.waves()), 0), packed = wave, shared = wave;
  for (int w = 0; w < owners.waves(); ++w)
    for (int task : owners.wave(w)) {
      const MatrixTask& of = owners.tasks()[core::at(task)];
      const auto is_packed = [&](const Rectangle& m) { return m.rows < m.cols || !m.contiguous(); };
      if (owners.is_shared(task) && std::ranges::any_of(of.matrices, is_packed))
        packed[core::at(w)] += 4 * (zero.keeps_slice ? shards.piece(of.parameter, rank).count() : of.elements);
      if (!owners.owns(rank, task) || !owners.is_shared(task)) continue;
      shared[core::at(w)] += owners.share_elements(task) * 4;
    }
  for (int w = 0; w < owners.waves(); ++w)
    wave[core::at(w)] = shared[core::at(w)] + layout_of(shards, owners, rank, w).elements * 4;
  const std::int64_t inputs = zero.keeps_slice ? 1 : 0;
  std::int64_t most = 0;
  for (std::size_t w = 0; w < wave.size(); ++w) {
    const std::int64_t before = w > 0 ? wave[w - 1] : 0, after = w + 1 < wave.size() ? wave[w + 1] : 0;
    // While wave w is computed: its inputs and outputs, the inputs of the next, the outputs of the last one.
    const std::int64_t coming = w > 0 ? packed[w - 1] : 0, going = w + 1 < wave.size() ? packed[w + 1] : 0;
    // A rank that shares a matrix has its part apart from the piece at stage 0 too.
    const std::int64_t own = inputs > 0 ? 0 : shared[w] + (w + 1 < wave.size() ? shared[w + 1] : 0);
    most = std::max(most, before + coming + wave[w] + own + inputs * (wave[w] + after + going) + workspace(core::to_int(w)));
  }
  return most;
}

}  // namespace muonp::dist
