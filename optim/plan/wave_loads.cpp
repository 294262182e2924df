#include "optim/plan/wave_loads.h"

#include <algorithm>
#include <map>
#include <memory>
#include <tuple>

#include "core/base/index.h"
#include "core/base/math.h"
#include "optim/plan/sharing.h"

namespace muonp::optim {

using core::at;

namespace {

// Seconds and operations of one matrix's update on its owner.
class MatrixTimes {
 public:
  MatrixTimes(const dist::OwnerPlan& owners, const Groups& groups, const std::vector<dist::ParameterSpec>& specs,
              core::DeviceKind device, const dist::ClusterView& cluster)
      : owners_(owners), groups_(groups), specs_(specs), cluster_(cluster) {
    for (const Group& group : groups.groups())
      types_.push_back(group.config.whole_matrices() ? group.config.rule->matrix_step(device)->product_dtype()
                                                     : core::Dtype::float32);
  }
  double seconds(int task) const {
    const dist::MatrixTask& t = owners_.tasks()[at(task)];
    const dist::ParameterSpec& spec = specs_[at(t.parameter)];
    std::int64_t smallest = 0;
    for (const MatrixBatch& batch : matrix_batches(spec.name, spec.shape, groups_.split_of(t.parameter)))
      if (const std::int64_t side = std::min(batch.rows, batch.cols); side > 0 && (smallest == 0 || side < smallest))
        smallest = side;
    return cluster_.spectral_seconds(types_[at(groups_.group_of(t.parameter))], {t.cost, static_cast<double>(smallest)});
  }

 private:
  const dist::OwnerPlan& owners_;
  const Groups& groups_;
  const std::vector<dist::ParameterSpec>& specs_;
  const dist::ClusterView& cluster_;
  std::vector<core::Dtype> types_;
};

struct OfRank {
  double seconds = 0, flops = 0, there = 0, back = 0, messages_there = 0, messages_back = 0, read = 0, answer = 0,
         elements = 0;
  dist::PairMessages shared;
};

void raise(dist::PairMessages& most, const dist::PairMessages& other) {
  most.near = std::max(most.near, other.near);
  most.far = std::max(most.far, other.far);
  most.near_rounds = std::max(most.near_rounds, other.near_rounds);
  most.far_rounds = std::max(most.far_rounds, other.far_rounds);
}

// Sums by owner within a wave, of those that own something in it.
class ByOwner {
 public:
  OfRank& operator[](int owner) { return of_[owner]; }
  WaveLoad most() const {
    WaveLoad load;
    for (const auto& [owner, sum] : of_) {
      if (sum.seconds >= load.seconds) {
        load.seconds = sum.seconds;
        load.flops = sum.flops;
      }
      load.there.busiest = std::max(load.there.busiest, sum.there);
      load.there.rounds = std::max(load.there.rounds, sum.messages_there);
      load.back.busiest = std::max(load.back.busiest, sum.back);
      load.back.rounds = std::max(load.back.rounds, sum.messages_back);
      raise(load.shared.busiest, sum.shared);
      load.read = std::max(load.read, sum.read);
      load.answer = std::max(load.answer, sum.answer);
      load.owned_elements = std::max(load.owned_elements, sum.elements);
    }
    return load;
  }

 private:
  std::map<int, OfRank> of_;
};

}  // namespace

namespace {

// Each owner of a shared matrix does its part of the work and of the messages, and sends as many more as the products take,
// to those of its host by links.
void add_shared(const ExecutionPlan& plan, int task, double seconds, int ranks_on_host, ByOwner& by_owner, double& there,
                double& back, double& shared) {
  const dist::OwnerPlan& owners = plan.owners;
  const dist::MatrixTask& t = owners.tasks()[at(task)];
  const int sharers = owners.group_size(task);
  const spectral::SharedWork work =
      shared_work(owners, plan.sharded_groups, plan.shards.parameters(), plan.options.device, task);
  const double n = plan.shards.world_size(), part = 1.0 / sharers;
  const double sent = part * static_cast<double>(work.sent), all = 4 * static_cast<double>(t.elements);
  const double away = all - 4 * static_cast<double>(own_elements(owners, plan.shards, task));
  const double out = part * (plan.zero.keeps_slice ? away : all * (n - 1)), in = plan.zero.keeps_slice ? part * away : 0;
  const double to = plan.zero.keeps_slice ? static_cast<double>(plan.shards.ranks_of(t.parameter).count()) : n - 1;
  const dist::Interval group = owners.group(task);
  for (int r = core::to_int(group.begin); r < group.end; ++r) {
    OfRank& mine = by_owner[r];
    const std::int64_t host = r / ranks_on_host * ranks_on_host;
    const std::int64_t first = std::max(group.begin, host), last = std::min(group.end, host + ranks_on_host);
    const double others = sharers - 1, near = static_cast<double>(last - first - 1);
    mine.seconds += part * seconds;
    mine.flops += part * t.cost;
    mine.there += in;
    mine.back += out;
    mine.messages_there += in > 0 ? to : 0;
    mine.messages_back += to;
    mine.shared.near += sent * near / others;
    mine.shared.far += sent * (others - near) / others;
    mine.shared.near_rounds += work.exchanges * near;
    mine.shared.far_rounds += work.exchanges * (others - near);
    there += in;
    back += out;
    shared += sent;
  }
}

}  // namespace

// An owner receives what others keep of its matrices, and sends as much back; at stage 0 it has the input already, and the
// result goes whole to every other rank.
std::vector<WaveLoad> exact_waves(const ExecutionPlan& plan, const dist::ClusterView& cluster, bool everyone) {
  const dist::OwnerPlan& owners = plan.owners;
  const MatrixTimes times(owners, plan.sharded_groups, plan.shards.parameters(), plan.options.device, cluster);
  const double n = plan.shards.world_size();
  std::vector<WaveLoad> waves;
  for (int w = 0; w < owners.waves(); ++w) {
    ByOwner by_owner;
    double there = 0, back = 0, shared = 0;
    for (const int t : owners.wave(w)) {
      const dist::MatrixTask& task = owners.tasks()[at(t)];
      if (!everyone && owners.is_shared(t)) {
        add_shared(plan, t, times.seconds(t), cluster.ranks_on_host(), by_owner, there, back, shared);
        continue;
      }
      OfRank& mine = by_owner[everyone ? 0 : owners.owner(t)];
      mine.seconds += times.seconds(t);
      mine.flops += task.cost;
      if (everyone) continue;
      const auto elements = static_cast<double>(task.elements);
      if (plan.zero.keeps_slice) {
        const double away = 4 * (elements - static_cast<double>(plan.shards.piece(task.parameter, owners.owner(t)).count()));
        const double messages = static_cast<double>(plan.shards.ranks_of(task.parameter).count());
        mine.there += away;
        mine.back += away;
        mine.messages_there += messages;
        mine.messages_back += messages;
        there += away;
        back += away;
      } else {
        mine.back += 4 * elements * (n - 1);
        mine.messages_back += n - 1;
        back += 4 * elements * (n - 1);
      }
    }
    WaveLoad& load = waves.emplace_back(by_owner.most());
    load.there.mean = there / n;
    load.back.mean = back / n;
    load.shared.mean = shared / n;
    load.there.busiest = std::max(load.there.busiest, load.there.mean);
    load.back.busiest = std::max(load.back.busiest, load.back.mean);
  }
  return waves;
}

namespace {

// What is known of a message without making it.
struct Wire {
  double bytes = 0;
  std::string kind;
};

class Wires {
 public:
  const Wire& of(const dist::CompressorSpec& spec, std::int64_t rows, std::int64_t cols) {
    const auto [entry, is_new] = known_.try_emplace({spec.text(), rows, cols});
    if (is_new) {
      const auto compressor = dist::make_compressor(spec, rows, cols);
      const std::string text = spec.text();
      entry->second = {static_cast<double>(compressor->wire_bytes()), text.substr(0, text.find(' '))};
    }
    return entry->second;
  }

 private:
  std::map<std::tuple<std::string, std::int64_t, std::int64_t>, Wire> known_;
};

}  // namespace

// Each rank makes the residual (three numbers move for each element), encodes it and adds what it encoded to its estimate;
// an owner decodes the messages of all ranks, and encodes what all of them decode.
std::vector<WaveLoad> compressed_waves(const ExecutionPlan& plan, const dist::ClusterView& cluster) {
  const CompressionPlan& compression = *plan.compression;
  const MatrixTimes times(compression.owners, compression.groups, compression.specs, plan.options.device, cluster);
  const double n = plan.shards.world_size();
  Wires wires;
  std::vector<WaveLoad> waves;
  for (const std::vector<int>& wave : compression.feedback.waves) {
    ByOwner by_owner;
    WaveLoad all;
    for (const int i : wave) {
      const dist::FeedbackMatrix& m = compression.feedback.matrices[at(i)];
      const Wire &up = wires.of(m.to_owner, m.rows, m.cols), &down = wires.of(m.to_workers, m.rows, m.cols);
      const double bytes = 4 * static_cast<double>(m.size());
      const double narrow = static_cast<double>(m.narrow_estimate_bytes);  // decoded, and encoded again
      const double residual = cluster.memory_seconds(3 * bytes + (narrow > 0 ? 2 * (bytes + narrow) : 0));
      OfRank& mine = by_owner[m.owner];
      if (i < compression.matrices()) {
        mine.seconds += times.seconds(i);
        mine.flops += compression.owners.tasks()[at(i)].cost;
      }
      mine.there += (n - 1) * up.bytes;
      mine.back += (n - 1) * down.bytes;
      mine.messages_there += n - 1;
      mine.messages_back += n - 1;
      mine.read += n * cluster.decode_seconds(up.kind, bytes);
      mine.answer += residual + cluster.encode_seconds(down.kind, bytes);
      mine.elements += static_cast<double>(m.size());
      all.encode += residual + cluster.encode_seconds(up.kind, bytes) + cluster.decode_seconds(up.kind, bytes);
      all.apply += cluster.decode_seconds(down.kind, bytes);
      all.there.mean += (n - 1) * up.bytes / n;
      all.back.mean += (n - 1) * down.bytes / n;
      all.elements += static_cast<double>(m.size());
    }
    WaveLoad& load = waves.emplace_back(by_owner.most());
    load.encode = all.encode;
    load.apply = all.apply;
    load.elements = all.elements;
    load.there.mean = all.there.mean;
    load.back.mean = all.back.mean;
    load.there.busiest = std::max(load.there.busiest, all.there.mean);
    load.back.busiest = std::max(load.back.busiest, all.back.mean);
  }
  return waves;
}

}  // namespace muonp::optim
