#include "optim/rules/spectral_step.h"

#include <algorithm>
#include <tuple>
#include <vector>

#include "core/base/math.h"

namespace muonp::optim {

namespace {

// Copying two matrices of this size is cheap beside their spectral power, and one at a time they leave
// threads idle.
constexpr std::int64_t kPackBelow = 256 * 256;     // elements of one matrix
constexpr std::int64_t kPackedElements = 1 << 20;  // elements of one packed batch
// Where a batch takes no more launches than one matrix does, copying any together is cheap. Their elements at most: 56
// matrices of 768 by 768 or 14 of 768 by 3072, which fill a GPU, and scratch memory that is worth it (docs/gpu.md).
constexpr std::int64_t kTogetherElements = 1 << 25;

}  // namespace

// Parameters that are one batch as they lie in memory.
struct SpectralStep::Segment {
  struct Of {
    const MatrixInput* input;
    std::int64_t count;  // of its matrices
  };
  MatrixBatch batch;  // from in and out on
  float* in;
  float* out;
  std::vector<Of> inputs;
  spectral::Exponent p = {};

  // Of one shape and exponent.
  bool is_like(const Segment& other) const {
    return batch.rows == other.batch.rows && batch.cols == other.batch.cols && p == other.p;
  }
  bool continues(const Segment& before) const {
    return is_like(before) && batch.contiguous() && before.batch.contiguous() && in == before.in + before.batch.elements() &&
           out == before.out + before.batch.elements();
  }
  bool small() const { return batch.rows * batch.cols <= kPackBelow; }
  static bool in_place(std::span<const Segment> s) { return s.size() == 1 && s.front().batch.contiguous(); }
};

namespace {

std::string describe(const MatrixInput& input) {
  if (input.split == nullptr) return "parameter " + input.name;
  return fmt::format("parameter {} (split into {})", input.name, fmt::join(input.split->parts, ", "));
}

void check(const MatrixInput& input) {
  const std::int64_t n = core::element_count(input.shape);
  MUONP_ASSERT(input.in.size() == n && input.out.size() == n, "{} of shape {}: {} elements in, {} out", input.name,
               core::to_string(input.shape), input.in.size(), input.out.size());
  const float *in = input.in.data<float>(), *out = input.out.data<float>();
  MUONP_ASSERT(in + n <= out || out + n <= in, "{}: in and out overlap", input.name);
}

core::Tensor borrow(float* data, const MatrixBatch& b) {
  return core::Tensor::borrow(data, {b.count, b.rows, b.cols}, core::Dtype::float32);
}

}  // namespace

SpectralStep::SpectralStep(std::unique_ptr<spectral::SpectralPower> power, ShapeScale scale, core::DeviceKind device)
    : only_(power->options().p), scale_(scale), device_(device) {
  powers_.push_back(std::move(power));
}

namespace {

std::vector<std::unique_ptr<spectral::SpectralPower>> powers_of(spectral::SpectralOptions options,
                                                                std::span<const spectral::Exponent> exponents) {
  std::vector<std::unique_ptr<spectral::SpectralPower>> powers;
  for (const spectral::Exponent p : exponents) {
    options.p = p;
    powers.push_back(spectral::make_spectral_power(options));
  }
  return powers;
}

}  // namespace

SpectralStep::SpectralStep(const spectral::SpectralOptions& options, const Exponents& exponents, ShapeScale scale,
                           core::DeviceKind device)
    : powers_(powers_of(options, exponents.all())), exponents_(exponents), scale_(scale), device_(device) {}

SpectralStep::SpectralStep(const spectral::SpectralOptions& options, std::span<const spectral::Exponent> candidates,
                           ShapeScale scale, core::DeviceKind device)
    : powers_(powers_of(options, candidates)), only_(candidates.front()), each_(true), scale_(scale), device_(device) {}

spectral::SpectralPower& SpectralStep::power_of(spectral::Exponent p) const {
  const auto found = std::ranges::find_if(powers_, [p](const auto& power) { return power->options().p == p; });
  MUONP_ASSERT(found != powers_.end(), "exponent {} of none that was prepared", to_string(p));
  return **found;
}

void SpectralStep::compute(core::Device& device, std::int64_t step, std::span<const MatrixInput> inputs) {
  MUONP_ASSERT(!each_, "matrices without exponents of their own");
  for (const MatrixInput& input : inputs) check(input);
  std::vector<Segment> segments = segments_of(inputs, nullptr);
  const spectral::Exponent p = exponents_ ? exponents_->at(step) : only_;
  for (Segment& s : segments) s.p = p;
  compute(device, std::move(segments));
}

void SpectralStep::compute_each(core::Device& device, std::span<const MatrixInput> inputs, const EachExponent& exponents) {
  for (const MatrixInput& input : inputs) check(input);
  compute(device, segments_of(inputs, &exponents));
}

// Those that lie one behind the other as one.
std::vector<SpectralStep::Segment> SpectralStep::merged(std::vector<Segment> segments) {
  std::vector<Segment> all;
  for (Segment& s : segments) {
    if (all.empty() || !s.continues(all.back())) {
      all.push_back(std::move(s));
      continue;
    }
    all.back().batch.count += s.batch.count;
    std::ranges::move(s.inputs, std::back_inserter(all.back().inputs));
  }
  return all;
}

void SpectralStep::compute(core::Device& device, std::vector<Segment> segments) {
  const std::vector<Segment> all = merged(std::move(segments));
  for (const std::span<const Segment> batch : batches_of(all)) compute_packed(device, batch);
}

// One of each parameter with elements, or of each of its matrices where they have exponents of their own; those of one shape
// and exponent together, as they lie in memory.
std::vector<SpectralStep::Segment> SpectralStep::segments_of(std::span<const MatrixInput> inputs,
                                                             const EachExponent* exponents) const {
  std::vector<Segment> segments;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const MatrixInput& input = inputs[i];
    const auto start = [&](const core::Tensor& t) {
      return t.size() > 0 ? t.data<float>() : static_cast<float*>(nullptr) + input.begin.value_or(0);
    };
    std::size_t matrix = 0;
    for (const MatrixBatch& batch : matrix_batches(input.name, input.shape, input.split)) {
      const std::int64_t parts = each_ ? batch.count : 1;
      for (std::int64_t k = 0; k < parts; ++k, ++matrix) {
        MatrixBatch one = batch;
        one.count = batch.count / parts;
        one.offset = 0;
        if (each_) one.apart = one.rows * one.cols;
        const std::int64_t offset = batch.offset + k * batch.apart;
        if (one.elements() > 0)
          segments.push_back({one,
                              start(input.in) + offset,
                              start(input.out) + offset,
                              {{&input, one.count}},
                              exponents != nullptr ? (*exponents)[i][matrix] : spectral::Exponent{}});
      }
    }
  }
  std::stable_sort(segments.begin(), segments.end(), [](const Segment& a, const Segment& b) {
    return std::tuple(a.batch.rows, a.batch.cols, a.p.value(), a.in) <
           std::tuple(b.batch.rows, b.batch.cols, b.p.value(), b.in);
  });
  return segments;
}

bool SpectralStep::takes_together() const {
  return std::ranges::all_of(powers_, [&](const auto& power) { return power->takes_together(device_); });
}

// What is copied together, if it does not lie so: on a CPU small ones of a shape, others stay alone.
std::vector<std::span<const SpectralStep::Segment>> SpectralStep::batches_of(std::span<const Segment> segments) const {
  std::vector<std::span<const Segment>> batches;
  const bool together = takes_together();
  for (std::size_t begin = 0, end = 0; begin < segments.size(); begin = end) {
    std::int64_t elements = 0;
    while (end < segments.size() && segments[end].is_like(segments[begin])) {
      const std::int64_t more = segments[end].batch.elements();
      const std::int64_t most = together ? kTogetherElements : segments[end].small() ? kPackedElements : 0;
      if (end > begin && elements + more > most) break;
      elements += more;
      ++end;
    }
    batches.push_back(segments.subspan(begin, end - begin));
  }
  return batches;
}

// One batch from several segments, or from one as it lies.
void SpectralStep::compute_packed(core::Device& device, std::span<const Segment> segments) {
  MatrixBatch all = segments.front().batch;
  if (Segment::in_place(segments)) {
    const core::Tensor in = borrow(segments.front().in, all), out = borrow(segments.front().out, all);
    return compute_batch(device, segments, in, out);
  }
  all.count = 0;
  for (const Segment& s : segments) all.count += s.batch.count;
  const core::Shape shape = {all.count, all.rows, all.cols};
  const core::Tensor in = core::Tensor::empty(device, shape, core::Dtype::float32, core::Category::exchange);
  const core::Tensor out = core::Tensor::empty(device, shape, core::Dtype::float32, core::Category::exchange);
  std::int64_t at = 0;
  for (const Segment& s : segments) {
    pack(device.queue(), s.batch, s.in, in.data<float>() + at);
    at += s.batch.elements();
  }
  compute_batch(device, segments, in, out);
  at = 0;
  for (const Segment& s : segments) {
    unpack(device.queue(), s.batch, out.data<float>() + at, s.out);
    at += s.batch.elements();
  }
}

// in, out: [count, rows, cols], the matrices of the segments in order.
void SpectralStep::compute_batch(core::Device& device, std::span<const Segment> segments, const core::Tensor& in,
                                 const core::Tensor& out) {
  spectral::SpectralPower& power = power_of(segments.front().p);
  try {
    return apply(device, power, in, out);
  } catch (const core::Error&) {
    // The message counts matrices within the batch; one parameter at a time tells which one it is.
    std::int64_t at = 0;
    for (const Segment& s : segments)
      for (const auto& [input, count] : s.inputs) {
        const core::Shape shape = {count, in.dim(1), in.dim(2)};
        const std::int64_t n = core::element_count(shape);
        try {
          apply(device, power, in.flat(at, n).view(shape), out.flat(at, n).view(shape));
        } catch (const core::Error& e) {
          core::fail("{}: {}", describe(*input), e.what());
        }
        at += n;
      }
    throw;
  }
}

// Matrices of one shape that go through the spectral power at once, at most.
std::int64_t SpectralStep::most_together(const MatrixBatch& shape) const {
  return std::max<std::int64_t>(1, kTogetherElements / std::max<std::int64_t>(1, shape.rows * shape.cols));
}

void SpectralStep::apply(core::Device& device, spectral::SpectralPower& power, const core::Tensor& in,
                         const core::Tensor& out) {
  const std::int64_t count = in.dim(0), rows = in.dim(1), cols = in.dim(2), of_one = rows * cols;
  const std::int64_t most = takes_together() ? most_together({.count = count, .rows = rows, .cols = cols}) : count;
  for (std::int64_t begin = 0; begin < count; begin += most) {
    const std::int64_t many = std::min(most, count - begin);
    const auto part = [&](const core::Tensor& t) { return t.flat(begin * of_one, many * of_one).view({many, rows, cols}); };
    const spectral::SpectralReport report = power.apply(device, part(in), part(out));
    scale_updates(device.queue(), scale_, power.options().p.value(), part(in), part(out), report.squares);
  }
}

double SpectralStep::cost(std::string_view name, const core::Shape& shape, const Split* split) const {
  const std::vector<MatrixBatch> batches = matrix_batches(name, shape, split);
  double most = 0;
  for (const auto& power : powers_) {
    double flops = 0;
    for (const MatrixBatch& b : batches)
      if (b.elements() > 0) flops += static_cast<double>(b.count) * power->flops(b.rows, b.cols);
    most = std::max(most, flops);
  }
  return most;
}

std::int64_t SpectralStep::workspace_bytes(std::span<const MatrixInput> inputs) const {
  std::int64_t most = 0;
  std::vector<Segment> segments = segments_of(inputs, nullptr);
  if (std::ranges::all_of(inputs, [](const MatrixInput& input) { return input.begin.has_value(); }))
    segments = merged(std::move(segments));
  for (const std::span<const Segment> batch : batches_of(segments)) {
    std::int64_t copied = 0, scratch = 0;
    if (each_ || !Segment::in_place(batch))  // neighbours in memory may have other exponents
      for (const Segment& s : batch) copied += 2 * s.batch.elements() * core::size_of(core::Dtype::float32);
    const MatrixBatch& one = batch.front().batch;
    std::int64_t count = 0;
    for (const Segment& s : batch) count += s.batch.count;
    const std::int64_t at_once = takes_together() ? std::min(count, most_together(one)) : 1;
    for (const auto& power : powers_) scratch = std::max(scratch, at_once * power->workspace_bytes(one.rows, one.cols));
    most = std::max(most, scratch + copied);
  }
  return most;
}

// Beside the power scales sum one number, ‖Z‖², or with `schatten` an inner product too. Of exponents, the most that one
// takes.
std::optional<spectral::SharedWork> SpectralStep::shared_work(std::string_view name, const core::Shape& shape,
                                                              const Split* split, int sharers) const {
  if (each_ || !can_share(scale_)) return std::nullopt;
  spectral::SharedWork all;
  for (const MatrixBatch& b : matrix_batches(name, shape, split)) {
    spectral::SharedWork most;
    for (const auto& power : powers_) {
      const std::optional<spectral::SharedWork> work = power->shared_work(b.rows, b.cols, sharers);
      if (!work) return std::nullopt;
      const int numbers = scale_ == ShapeScale::schatten && power->options().p.value() != 0 ? 2 : 1;
      most.exchanges = std::max(most.exchanges, work->exchanges + numbers);
      most.sent = std::max(most.sent, work->sent + spectral::bytes_of_sums(sharers, numbers));
    }
    all.exchanges += core::to_int(b.count) * most.exchanges;
    all.sent += b.count * most.sent;
  }
  return all;
}

void SpectralStep::compute_share(core::Device& device, std::int64_t step, const MatrixInput& input,
                                 spectral::Sharers& sharers) {
  spectral::SpectralPower& power = power_of(exponents_ ? exponents_->at(step) : only_);
  std::int64_t at = 0;
  try {
    for (const MatrixBatch& b : matrix_batches(input.name, input.shape, input.split)) {
      const bool wide = b.rows < b.cols;
      const std::int64_t length = wide ? b.cols : b.rows;
      const std::int64_t mine = spectral::part_begin(length, sharers.size(), sharers.rank() + 1) -
                                spectral::part_begin(length, sharers.size(), sharers.rank());
      const core::Shape part = wide ? core::Shape{b.rows, mine} : core::Shape{mine, b.cols};
      for (std::int64_t i = 0; i < b.count; ++i, at += core::element_count(part)) {
        const core::Tensor in = input.in.flat(at, core::element_count(part)).view(part),
                           out = input.out.flat(at, core::element_count(part)).view(part);
        power.apply_share(device, b.rows, b.cols, in, out, sharers);
        scale_share(device.queue(), scale_, power.options().p.value(), in, out, {b.rows, b.cols}, sharers);
      }
    }
  } catch (const core::Error& e) {
    core::fail("{}: {}", describe(input), e.what());
  }
}

std::int64_t SpectralStep::share_workspace_bytes(const MatrixInput& input, int sharers) const {
  std::int64_t most = 0;
  for (const MatrixBatch& b : matrix_batches(input.name, input.shape, input.split))
    for (const auto& power : powers_) most = std::max(most, power->share_workspace_bytes(b.rows, b.cols, sharers));
  return most;
}

}  // namespace muonp::optim
