#include "launch/bench/pass_work.h"

#include <algorithm>
#include <unordered_map>

#include "core/base/index.h"

namespace muonp::launch {

using core::ParameterKind;
using optim::OperationWork;

namespace {

// Kernels of an operation, its share of attention, residuals and copies included.
constexpr int kForwardKernels = 4, kBackwardKernels = 8;

using Parameters = std::vector<core::Parameter*>;

class PassWorkOf {
 public:
  PassWorkOf(models::LanguageModel& model, const PassShape& shape, const dist::HostRates& rates)
      : model_(model), shape_(shape), rates_(rates), reads_(model.weight_reads()) {
    for (std::size_t i = 0; i < reads_.forward.size(); ++i) {
      flops_.push_back(0);
      outputs_.push_back(0);
      for (const core::Parameter* p : reads_.forward[i]) {
        if (multiplies(*p, i)) all_flops_ += product_flops(*p);
        if (is_of_block(*p)) flops_.back() += product_flops(*p);
        outputs_.back() += outputs_of(*p, i);
      }
      block_flops_ += flops_.back();
      all_outputs_ += outputs_.back();
    }
  }
  optim::PassWork work() {
    optim::PassWork work{.type = shape_.type, .forward = {}, .backward = {}};
    for (std::size_t i = 0; i < reads_.forward.size(); ++i) work.forward.push_back(forward_of(i));
    work.backward = backward();
    return work;
  }

 private:
  double element() const { return static_cast<double>(core::size_of(shape_.type)); }
  double tokens() const { return static_cast<double>(shape_.batch * shape_.time); }
  double product_flops(const core::Parameter& p) const { return 2 * tokens() * static_cast<double>(p.size()); }
  // A token's embedding is looked up, and multiplied where it is the head, which is read last.
  bool multiplies(const core::Parameter& p, std::size_t operation) const {
    return p.kind != ParameterKind::vector && (p.kind != ParameterKind::embedding || operation + 1 == reads_.forward.size());
  }
  // Attention is in blocks, as are all weights that multiply but the head.
  static bool is_of_block(const core::Parameter& p) {
    return p.kind == ParameterKind::matrix || p.kind == ParameterKind::lora_a || p.kind == ParameterKind::lora_b;
  }
  double outputs_of(const core::Parameter& p, std::size_t operation) const {
    const std::int64_t columns = p.shape.back();
    return static_cast<double>(multiplies(p, operation) ? p.size() / columns : columns);
  }
  // Of a forward pass beside the products with weights.
  double attention_flops() const {
    const double all = model_.step_flops(shape_.batch, shape_.time) - model_.skipped_flops(shape_.batch, shape_.time);
    return std::max(all / 3 - all_flops_, 0.0);
  }
  // An operation's products, each `times` (of frozen weights `frozen_times`), and its share of attention's.
  std::vector<dist::Work> products(std::size_t operation, double times, double frozen_times) const {
    std::vector<dist::Work> products;
    for (const core::Parameter* p : reads_.forward[operation]) {
      if (!multiplies(*p, operation)) continue;
      const auto columns = static_cast<double>(p->shape.back()), rows = static_cast<double>(p->size()) / columns;
      const double often = p->trained ? times : frozen_times;
      products.push_back({often * product_flops(*p), dist::product_size(tokens(), rows, columns),
                          often * element() * (tokens() * (rows + columns) + rows * columns)});
    }
    const auto time = static_cast<double>(shape_.time);
    if (flops_[operation] > 0)
      products.push_back({times * attention_flops() * flops_[operation] / block_flops_,
                          dist::product_size(time, time, static_cast<double>(shape_.head_size))});
    return products;
  }
  double share(std::size_t operation) const { return all_outputs_ > 0 ? outputs_[operation] / all_outputs_ : 0; }
  double traffic(std::size_t operation, double times) const {
    return times * static_cast<double>(shape_.kept_bytes) * share(operation);
  }
  OperationWork forward_of(std::size_t i) const {
    return {reads_.forward[i], {}, products(i, 1, 1), traffic(i, rates_.forward_traffic), kForwardKernels};
  }
  static bool is_read_of(const Parameters& some, const Parameters& operation) {
    return !some.empty() &&
           std::ranges::all_of(some, [&](core::Parameter* p) { return std::ranges::find(operation, p) != operation.end(); });
  }
  // In reverse order of the forward pass. Between the reads of two operations of the backward pass stand those that are
  // computed again; where one is met twice, the first time is such a one.
  std::vector<OperationWork> backward() const {
    std::vector<OperationWork> work;
    std::unordered_map<const core::Parameter*, int> uses;
    for (const Parameters& operation : reads_.forward)
      for (const core::Parameter* p : operation) ++uses[p];
    std::size_t next = 0;
    for (std::size_t i = reads_.forward.size(); i-- > 0;) {
      const Parameters& operation = reads_.forward[i];
      OperationWork undone{{}, {}, products(i, 2, 1), traffic(i, rates_.backward_traffic), kBackwardKernels};
      std::size_t at = next;
      while (at < reads_.backward.size() && !is_read_of(reads_.backward[at], operation)) ++at;
      if (at < reads_.backward.size()) {
        while (at + 1 < reads_.backward.size() && is_read_of(reads_.backward[at + 1], operation)) ++at;
        for (; next < at; ++next) work.push_back(again(reads_.backward[next]));
        undone.reads = reads_.backward[next++];
      }
      for (core::Parameter* p : operation)
        if (--uses[p] == 0 && p->trained) undone.completes.push_back(p);
      work.push_back(std::move(undone));
    }
    return work;
  }
  OperationWork again(const Parameters& reads) const {
    const auto found = std::ranges::find(reads_.forward, reads);
    MUONP_ASSERT(found != reads_.forward.end(), "the backward pass reads {}, which no operation does", reads.front()->name);
    return forward_of(static_cast<std::size_t>(found - reads_.forward.begin()));
  }

  models::LanguageModel& model_;
  const PassShape& shape_;
  const dist::HostRates& rates_;
  core::WeightReads reads_;
  std::vector<double> flops_, outputs_;  // by operation; flops of weights of blocks
  double all_flops_ = 0, block_flops_ = 0, all_outputs_ = 0;
};

}  // namespace

optim::PassWork pass_work(models::LanguageModel& model, const PassShape& shape, const dist::HostRates& rates) {
  return PassWorkOf(model, shape, rates).work();
}

}  // namespace muonp::launch
