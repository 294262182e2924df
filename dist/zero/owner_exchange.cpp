#include "dist/zero/owner_exchange.h"

#include <algorithm>

#include "core/base/math.h"

namespace muonp::dist {

using core::Category;
using core::Dtype;
using core::Tensor;

struct OwnerExchange::Wave {
  int index = 0;
  std::vector<OwnedMatrix> mine;
  std::vector<Transfer> gather_sends, gather_receives, scatter_sends, scatter_receives;
  AsyncQueue::Ticket gathered{}, scattered{};
};

OwnerExchange::OwnerExchange(core::Device& device, const ShardedParameters& parameters, const OwnerPlan& plan,
                             Communicator& communicator, AsyncQueue& async)
    : device_(device), parameters_(parameters), plan_(plan), communicator_(communicator), async_(async) {}

OwnerExchange::Wave OwnerExchange::prepare(int w, const Piece& piece) const {
  Wave wave;
  wave.index = w;
  for (int task : plan_.wave(w)) {
    const Tensor mine = piece(task);
    const int owner = plan_.owner(task);
    if (mine.size() > 0) wave.scatter_receives.push_back({owner, Span(mine)});
    if (parameters_.stage() == 0) {
      if (owner == parameters_.rank()) wave.mine.push_back({task, mine.view(shape_of(task)), Tensor()});
      continue;
    }
    if (mine.size() > 0) wave.gather_sends.push_back({owner, Span(mine)});
    if (owner != parameters_.rank()) continue;
    const Tensor in = Tensor::empty(device_, shape_of(task), Dtype::float32, Category::exchange);
    for (const auto& [rank, part] : pieces_of(task))
      wave.gather_receives.push_back({rank, Span(in.flat(part.begin, part.count()))});
    wave.mine.push_back({task, in, Tensor()});
  }
  return wave;
}

void OwnerExchange::allocate_outputs(Wave& wave) const {
  for (OwnedMatrix& matrix : wave.mine) {
    matrix.out = Tensor::empty(device_, shape_of(matrix.task), Dtype::float32, Category::exchange);
    for (const auto& [rank, part] : pieces_of(matrix.task))
      wave.scatter_sends.push_back({rank, Span(matrix.out.flat(part.begin, part.count()))});
  }
}

const core::Shape& OwnerExchange::shape_of(int task) const {
  return parameters_.plan()
      .parameters()[static_cast<std::size_t>(plan_.tasks()[static_cast<std::size_t>(task)].parameter)]
      .shape;
}

std::vector<std::pair<int, Interval>> OwnerExchange::pieces_of(int task) const {
  const ShardPlan& shards = parameters_.plan();
  const int parameter = plan_.tasks()[static_cast<std::size_t>(task)].parameter;
  const bool whole = parameters_.stage() == 0;
  const Interval ranks = whole ? Interval{0, communicator_.size()} : shards.ranks_of(parameter);
  std::vector<std::pair<int, Interval>> pieces;
  for (int r = core::to_int(ranks.begin); r < ranks.end; ++r)
    pieces.emplace_back(r, whole ? Interval{0, shards.in_bucket(parameter).count()} : shards.piece(parameter, r));
  return pieces;
}

void OwnerExchange::run(const Piece& piece, const Compute& compute, const Arrived& arrived) {
  std::vector<Wave> waves(static_cast<std::size_t>(plan_.waves()));
  DrainOnError drain(async_);
  const auto start = [&](std::size_t w) {
    if (w >= waves.size()) return;
    waves[w] = prepare(core::to_int(w), piece);
    if (parameters_.stage() == 0) return;
    waves[w].gathered = async_.submit(
        [this, &wave = waves[w]] { communicator_.exchange(wave.gather_sends, wave.gather_receives); });
  };
  const auto finish = [&](Wave& wave) {
    async_.wait(wave.scattered);
    wave.mine.clear();
    for (int task : plan_.wave(wave.index)) arrived(task);
  };
  start(0);
  for (std::size_t w = 0; w < waves.size(); ++w) {
    start(w + 1);
    if (parameters_.stage() > 0) async_.wait(waves[w].gathered);
    allocate_outputs(waves[w]);
    compute(waves[w].mine);
    for (OwnedMatrix& matrix : waves[w].mine) matrix.in = Tensor();
    waves[w].scattered = async_.submit(
        [this, &wave = waves[w]] { communicator_.exchange(wave.scatter_sends, wave.scatter_receives); });
    if (w > 0) finish(waves[w - 1]);
  }
  if (!waves.empty()) finish(waves.back());
  drain.done();
}

std::int64_t OwnerExchange::buffer_bytes(const ShardPlan& shards, const OwnerPlan& owners, int rank,
                                         int stage, const Workspace& workspace) {
  // Bytes of one wave's inputs (= outputs) on this rank.
  std::vector<std::int64_t> wave(static_cast<std::size_t>(owners.waves()), 0);
  for (int w = 0; w < owners.waves(); ++w)
    for (int task : owners.wave(w))
      if (owners.owner(task) == rank)
        wave[static_cast<std::size_t>(w)] +=
            shards.in_bucket(owners.tasks()[static_cast<std::size_t>(task)].parameter).count() * 4;
  const std::int64_t inputs = stage == 0 ? 0 : 1;
  std::int64_t most = 0;
  for (std::size_t w = 0; w < wave.size(); ++w) {
    const std::int64_t before = w > 0 ? wave[w - 1] : 0, after = w + 1 < wave.size() ? wave[w + 1] : 0;
    // While wave w is computed: its inputs and outputs, the inputs of the next, the outputs of the last one.
    most = std::max(most, before + wave[w] + inputs * (wave[w] + after) + workspace(core::to_int(w)));
  }
  return most;
}

}  // namespace muonp::dist
