#include "dist/compression/error_feedback.h"

#include <algorithm>

#include "core/base/hash.h"
#include "core/base/index.h"
#include "core/device/for_each.h"

namespace muonp::dist {

using core::Category;
using core::Dtype;
using core::Tensor;

namespace {

struct Residual {
  const float *values, *estimate;
  core::Written<float> to;
  float factor;
  using Elements = core::ElementArrays<&Residual::values, &Residual::estimate, &Residual::to>;
  MUONP_HD void operator()(std::int64_t i) const { to[i] = factor * values[i] - estimate[i]; }
};

struct Fade {
  float* values;
  float keep;
  using Elements = core::ElementArrays<&Fade::values>;
  MUONP_HD void operator()(std::int64_t i) const { values[i] *= keep; }
};

void fade(core::Queue& queue, const Tensor& values, float keep) {
  if (keep != 1) core::for_each(queue, values.size(), Fade{values.data<float>(), keep});
}

struct WireSizes {  // sizes of one matrix's
  std::int64_t up, down, work_up, work_down;
};

WireSizes sizes_of(const FeedbackMatrix& m) {
  const auto up = make_compressor(m.to_owner, m.rows, m.cols), down = make_compressor(m.to_workers, m.rows, m.cols);
  const auto work = [&](const Compressor& c) { return (c.exact() ? 0 : 4 * m.size()) + c.workspace_bytes(); };
  const std::int64_t estimate = m.narrow_estimate_bytes > 0 ? 4 * m.size() : 0;
  return {up->wire_bytes(), down->wire_bytes(), estimate + work(*up), work(*down)};
}

// Streams of randomness of one matrix: towards its owner, and towards its workers.
std::uint64_t stream_of(const std::string& name, bool up) {
  const std::string text = name + (up ? " up" : " down");
  return core::hash_bytes(text.data(), std::ssize(text));
}

}  // namespace

std::int64_t FeedbackPlan::bytes_sent_by_all(int world_size) const {
  std::int64_t sent = 0;
  for (const FeedbackMatrix& m : matrices) {
    const WireSizes sizes = sizes_of(m);
    sent += (world_size - 1) * (sizes.up + sizes.down);
  }
  return sent;
}

FeedbackPlan::Bytes FeedbackPlan::bytes(int rank, int world_size) const {
  Bytes bytes;
  std::vector<std::int64_t> up(waves.size() + 1), down(waves.size() + 1), encode(waves.size() + 1), answer(waves.size() + 1);
  for (std::size_t w = 0; w < waves.size(); ++w)
    for (const int i : waves[w]) {
      const FeedbackMatrix& m = matrices[core::at(i)];
      const WireSizes sizes = sizes_of(m);
      const bool mine = m.owner == rank;
      bytes.sent += mine ? (world_size - 1) * sizes.down : sizes.up;
      bytes.estimates += m.narrow_estimate_bytes > 0 ? m.narrow_estimate_bytes : 4 * m.size();
      if (mine) bytes.estimates += 8 * m.size();
      bytes.estimates += 4 * make_compressor(m.to_owner, m.rows, m.cols)->state_elements();
      if (mine) bytes.estimates += 4 * make_compressor(m.to_workers, m.rows, m.cols)->state_elements();
      up[w] += mine ? world_size * sizes.up : sizes.up;
      down[w] += sizes.down;
      encode[w] = std::max(encode[w], sizes.work_up);
      answer[w] = std::max(answer[w], sizes.work_down);
    }
  for (std::size_t w = 0; w < waves.size(); ++w) {
    const std::int64_t before = w > 0 ? down[w - 1] : 0;
    if (w == 0) bytes.buffers = up[0] + encode[0];
    // The next wave's messages are made while this one's travel; then this one's are read, and answered.
    bytes.buffers = std::max({bytes.buffers, before + up[w] + up[w + 1] + std::max(encode[w], encode[w + 1]),
                              before + down[w] + up[w + 1] + answer[w]});
  }
  return bytes;
}

struct ErrorFeedback::Matrix {
  std::unique_ptr<Compressor> up, down;
  Tensor estimate, mean, master, weights, state_up, state_down;
  std::uint64_t stream_up = 0, stream_down = 0;
};

struct ErrorFeedback::Round::InFlight {
  std::vector<int> mine;
  std::vector<std::vector<Tensor>> gathered;  // of `mine`, by rank
  std::vector<Tensor> sent, answers;          // of the wave's matrices
};

ErrorFeedback::ErrorFeedback(core::Device& device, const FeedbackPlan& plan, std::vector<Tensor> weights, int rank,
                             int world_size, EstimateStore* estimates)
    : device_(device), plan_(plan), rank_(rank), world_size_(world_size), estimates_(estimates) {
  MUONP_ASSERT(weights.size() == plan.matrices.size(), "{} weights of {} matrices", weights.size(), plan.matrices.size());
  for (std::size_t i = 0; i < plan.matrices.size(); ++i) {
    const FeedbackMatrix& m = plan.matrices[i];
    MUONP_ASSERT(weights[i].size() == m.size(), "{}: {} weights of {}", m.name, weights[i].size(), m.size());
    Matrix matrix;
    matrix.up = make_compressor(m.to_owner, m.rows, m.cols);
    matrix.down = make_compressor(m.to_workers, m.rows, m.cols);
    const auto zeros = [&](std::int64_t n) { return Tensor::zeros(device, {n}, Dtype::float32, Category::optimizer); };
    matrix.weights = weights[i];
    if (estimates == nullptr) matrix.estimate = zeros(m.size());
    matrix.state_up = zeros(matrix.up->state_elements());
    if (m.owner == rank) {
      matrix.mean = zeros(m.size());
      matrix.master = zeros(m.size());
      matrix.state_down = zeros(matrix.down->state_elements());
    }
    matrix.stream_up = stream_of(m.name, true);
    matrix.stream_down = stream_of(m.name, false);
    matrices_.push_back(std::move(matrix));
  }
}

ErrorFeedback::~ErrorFeedback() = default;

const ErrorFeedback::Matrix& ErrorFeedback::at(int matrix) const { return matrices_[core::at(matrix)]; }
bool ErrorFeedback::owns(int matrix) const { return plan_.matrices[core::at(matrix)].owner == rank_; }
Tensor ErrorFeedback::estimate(int matrix) const {
  return estimates_ == nullptr ? at(matrix).estimate : estimates_->read(matrix);
}
const Tensor& ErrorFeedback::mean(int matrix) const { return at(matrix).mean; }
const Tensor& ErrorFeedback::master(int matrix) const { return at(matrix).master; }
const Tensor& ErrorFeedback::weights(int matrix) const { return at(matrix).weights; }
const Tensor& ErrorFeedback::state_to_owner(int matrix) const { return at(matrix).state_up; }
const Tensor& ErrorFeedback::state_to_workers(int matrix) const { return at(matrix).state_down; }

Tensor ErrorFeedback::wire(const Compressor& compressor) const {
  return Tensor::empty(device_, {compressor.wire_bytes()}, Dtype::uint8, Category::exchange);
}

namespace {

// The message about factor·values, beside what its receivers know already.
void send_difference(core::Device& device, const Compressor& compressor, const Tensor& values, float factor,
                     const Tensor& estimate, const Tensor& state, const CompressionKey& key, const Tensor& wire) {
  if (compressor.exact()) {
    MUONP_ASSERT(factor == 1, "an exact message of a target with the factor {}", factor);
    return compressor.encode(device, values, state, key, wire);
  }
  const Tensor residual = Tensor::empty(device, {values.size()}, Dtype::float32, Category::exchange);
  core::for_each(device.queue(), values.size(),
                 Residual{values.data<float>(), estimate.data<float>(), {residual.data<float>()}, factor});
  compressor.encode(device, residual, state, key, wire);
}

}  // namespace

ErrorFeedback::Round::Round(ErrorFeedback& feedback, std::uint64_t step, std::vector<Target> targets)
    : feedback_(feedback), step_(step), targets_(std::move(targets)), flights_(feedback.plan_.waves.size()) {
  MUONP_ASSERT(targets_.size() == feedback_.matrices_.size(), "{} targets of {} matrices", targets_.size(),
               feedback_.matrices_.size());
}

ErrorFeedback::Round::~Round() = default;

ErrorFeedback::Round::InFlight& ErrorFeedback::Round::flight(int wave) { return flights_[core::at(wave)]; }

std::optional<Messages> ErrorFeedback::Round::gather(int wave) {
  const int rank = feedback_.rank_;
  InFlight& f = flight(wave);
  Messages messages;
  for (const int i : tasks(wave)) {
    const Matrix& m = feedback_.at(i);
    const int owner = feedback_.plan_.matrices[core::at(i)].owner;
    const Target& t = targets_[core::at(i)];
    f.sent.push_back(feedback_.wire(*m.up));
    const Tensor estimate = feedback_.estimate(i);
    fade(feedback_.device_.queue(), estimate, feedback_.plan_.keep);
    send_difference(feedback_.device_, *m.up, t.values, t.factor, estimate, m.state_up, {m.stream_up, step_, rank},
                    f.sent.back());
    m.up->decode(feedback_.device_, f.sent.back(), 1, !m.up->exact(), estimate);
    if (feedback_.estimates_ != nullptr) feedback_.estimates_->write(i, estimate, step_);
    if (owner != rank) {
      messages.sends.push_back({owner, Span(f.sent.back())});
      continue;
    }
    f.mine.push_back(i);
    std::vector<Tensor>& gathered = f.gathered.emplace_back();
    for (int r = 0; r < feedback_.world_size_; ++r) {
      gathered.push_back(r == owner ? f.sent.back() : feedback_.wire(*m.up));
      if (r != owner) messages.receives.push_back({r, Span(gathered.back())});
    }
  }
  return messages;
}

// Means in the order of ranks, so that they do not depend on who was first.
std::vector<OwnedMatrix> ErrorFeedback::Round::take(int wave) {
  InFlight& f = flight(wave);
  const float share = 1.0f / static_cast<float>(feedback_.world_size_);
  std::vector<OwnedMatrix> mine;
  for (std::size_t k = 0; k < f.mine.size(); ++k) {
    const Matrix& m = feedback_.at(f.mine[k]);
    fade(feedback_.device_.queue(), m.mean, feedback_.plan_.keep);
    for (std::size_t r = 0; r < f.gathered[k].size(); ++r)
      m.up->decode(feedback_.device_, f.gathered[k][r], share, r > 0 || !m.up->exact(), m.mean);
    mine.push_back({f.mine[k], m.mean, Tensor()});
  }
  f.gathered.clear();
  f.sent.clear();
  return mine;
}

Messages ErrorFeedback::Round::scatter(int wave, std::span<const OwnedMatrix>) {
  InFlight& f = flight(wave);
  Messages messages;
  for (const int i : tasks(wave)) {
    const Matrix& m = feedback_.at(i);
    const int owner = feedback_.plan_.matrices[core::at(i)].owner;
    f.answers.push_back(feedback_.wire(*m.down));
    if (owner != feedback_.rank_) {
      messages.receives.push_back({owner, Span(f.answers.back())});
      continue;
    }
    send_difference(feedback_.device_, *m.down, m.master, 1, m.weights, m.state_down, {m.stream_down, step_, owner},
                    f.answers.back());
    for (int r = 0; r < feedback_.world_size_; ++r)
      if (r != owner) messages.sends.push_back({r, Span(f.answers.back())});
  }
  return messages;
}

void ErrorFeedback::Round::arrive(int wave) {
  InFlight& f = flight(wave);
  for (std::size_t k = 0; k < f.answers.size(); ++k) {
    const Matrix& m = feedback_.at(tasks(wave)[k]);
    m.down->decode(feedback_.device_, f.answers[k], 1, !m.down->exact(), m.weights);
  }
  f.answers.clear();
}

}  // namespace muonp::dist
