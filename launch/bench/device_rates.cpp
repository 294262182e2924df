#include "launch/bench/device_rates.h"

#include <algorithm>
#include <span>

#include "core/base/index.h"
#include "core/base/rng.h"
#include "core/device/blas.h"
#include "core/device/host_view.h"
#include "dist/comm/local.h"
#include "dist/compression/compressor.h"
#include "launch/bench/pass_work.h"
#include "launch/bench/timing.h"
#include "launch/train/plain_product.h"
#include "models/gpt/gpt.h"
#include "optim/engine/distributed_optimizer.h"
#include "optim/rules/rule.h"
#include "optim/spectral/spectral_power.h"

namespace muonp::launch {

using core::Dtype;
using core::Tensor;

namespace {

Tensor gaussian(core::Device& device, core::Shape shape) {
  Tensor tensor = Tensor::empty(device, std::move(shape), Dtype::float32, core::Category::other);
  std::vector<float> values(core::at(tensor.size()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = core::normal(1, 0, i);
  device.queue().write(tensor.raw(), values.data(), tensor.bytes());
  return tensor;
}

// Sides are three times a power of two, as most models' are: rows that lie 2 KiB or a multiple of it apart share few sets of
// a CPU's caches (products of 512 were 0.6 times as fast as those of 256 and of 768).
constexpr std::int64_t kLeast = 48;

class DeviceRates {
 public:
  DeviceRates(Session& session, double budget) : session_(session), device_(session.device()), budget_(budget) {}

  // The median of the rank that takes longest.
  double seconds(const std::function<void()>& work) {
    session_.communicator().barrier();
    double median = time_alone(device_.queue(), work, budget_).median;
    session_.communicator().all_reduce(std::span<double>(&median, 1), dist::Reduce::max);
    return median;
  }
  bool multiplies(Dtype type) { return core::product_refusal(device_.queue(), type).empty(); }

  void products(std::int64_t largest, dist::HostRates& rates) {
    for (const Dtype type : {Dtype::float32, Dtype::tf32, Dtype::bfloat16, Dtype::float16})
      for (std::int64_t n = kLeast; n <= largest && multiplies(type); n *= 2) {
        const PlainProduct product(device_, n, n, type);
        rates.products.push_back({type, static_cast<double>(n), product.flops() / seconds([&] { product.run(); })});
      }
  }

  // By the operations that the owner plan counts.
  void spectral(std::int64_t largest, dist::HostRates& rates) {
    for (const Dtype type : {Dtype::float32, Dtype::tf32, Dtype::bfloat16, Dtype::float16}) {
      if (!multiplies(type)) continue;
      const auto power = optim::spectral::make_spectral_power({.dtype = type});
      for (std::int64_t n = kLeast; n <= largest / 2; n *= 2) {
        const Tensor g = gaussian(device_, {n, n}),
                     z = Tensor::empty(device_, {n, n}, Dtype::float32, core::Category::other);
        rates.spectral.push_back(
            {type, static_cast<double>(n), power->flops(n, n) / seconds([&] { power->apply(device_, g, z); })});
      }
    }
  }

  void memory(dist::HostRates& rates) {
    constexpr std::int64_t kElements = 1 << 24;
    constexpr int kLaunches = 200;
    const Tensor master = gaussian(device_, {kElements}), update = gaussian(device_, {kElements});
    core::Queue& queue = device_.queue();
    rates.memory = 12.0 * kElements / seconds([&] { optim::apply_update(queue, master, {update}, 1e-3, 0.1); });
    rates.launch_seconds = seconds([&] {
                             for (int i = 0; i < kLaunches; ++i)
                               optim::apply_update(queue, master.flat(0, 16), {update.flat(0, 16)}, 1e-3, 0.1);
                           }) /
                           kLaunches;
    rates.read_seconds = seconds([&] { core::read_scalar(queue, update.flat(0, 1).view({})); });
  }

  void compressors(dist::HostRates& rates) {
    constexpr std::int64_t kSide = 1024;
    constexpr double kBytes = 4.0 * kSide * kSide;
    const Tensor x = gaussian(device_, {kSide * kSide}), out = gaussian(device_, {kSide * kSide});
    for (const char* text : {"identity", "natural", "int8", "int4", "sign", "top_k 0.1", "top_k_natural 0.1", "rank 16"}) {
      const auto compressor = dist::make_compressor(dist::parse_compressor(text), kSide, kSide);
      const Tensor state = Tensor::zeros(device_, {compressor->state_elements()}, Dtype::float32, core::Category::other);
      const Tensor wire = Tensor::empty(device_, {compressor->wire_bytes()}, Dtype::uint8, core::Category::other);
      const double encode = seconds([&] { compressor->encode(device_, x, state, {}, wire); });
      const double decode = seconds([&] { compressor->decode(device_, wire, 1, true, out); });
      const std::string_view name = text;
      rates.compressors.push_back({std::string(name.substr(0, name.find(' '))), kBytes / encode, kBytes / decode});
    }
  }

  void traffic(const dist::HostRates& rates, double& forward, double& backward);

 private:
  Session& session_;
  core::Device& device_;
  double budget_;
};

// A model that none of the shipped configurations is.
constexpr std::int64_t kRows = 4, kTime = 128, kVocabulary = 512;
models::GptConfig probe() {
  models::GptConfig config;
  config.layers = 3;
  config.heads = 4;
  config.width = 256;
  config.context = kTime;
  config.vocabulary = kVocabulary;
  return config;
}

// Of the time of its passes, what is left without products and launches is charged to memory.
void DeviceRates::traffic(const dist::HostRates& rates, double& forward, double& backward) {
  const auto model = models::make_gpt(probe());
  const auto alone = dist::make_local(&device_);
  optim::DistributedOptimizer optimizer(device_, model->parameters(), {}, {.reads = model->weight_reads()}, *alone);
  optimizer.initialize(1);
  const models::TokenBatch batch{Tensor::on_host({kRows, kTime}, Dtype::int32),
                                 Tensor::on_host({kRows, kTime}, Dtype::int32)};
  for (std::int64_t i = 0; i < kRows * kTime; ++i) {
    batch.inputs.data<std::int32_t>()[i] = static_cast<std::int32_t>(core::random_below(1, 0, core::at(i), kVocabulary));
    batch.targets.data<std::int32_t>()[i] = static_cast<std::int32_t>(core::random_below(2, 0, core::at(i), kVocabulary));
  }
  const auto pass = [&](bool back) {
    if (back)
      optimizer.begin_pass(true, true);
    else
      optimizer.begin_evaluation();
    core::Tape tape(device_, true, &optimizer.weights());
    const core::Variable loss = model->loss(tape, batch, {});
    if (back) tape.backward(loss, 1, model->parameters(), optimizer.gradients());
    if (back) optimizer.prepare();
    if (back) optimizer.skip();
  };
  const auto kept = static_cast<double>(model->activation_bytes({kRows, kTime, Dtype::float32, device_.kind()}));
  // What a pass is predicted to take without such bytes.
  const optim::PassWork work = pass_work(*model, {kRows, kTime, probe().head_size(), Dtype::float32, 0}, rates);
  dist::Cluster cluster;
  cluster.rates = {rates};
  const dist::ClusterView view(cluster, 1);
  const auto predicted = [&](const std::vector<optim::OperationWork>& operations) {
    double sum = 0;
    for (const optim::OperationWork& operation : operations) {
      sum += operation.kernels * rates.launch_seconds;
      for (const dist::Work& product : operation.products)
        sum += std::max(view.product_seconds(work.type, product), view.memory_seconds(product.bytes));
    }
    return sum;
  };
  const double both = seconds([&] { pass(true); }), once = seconds([&] { pass(false); });
  forward = std::max(once - predicted(work.forward), 0.0) * rates.memory / kept;
  backward = std::max(both - once - predicted(work.backward), 0.0) * rates.memory / kept;
}

}  // namespace

void measure_device(Session& session, std::int64_t largest, double budget_seconds, dist::HostRates& rates) {
  DeviceRates device(session, budget_seconds);
  rates.products.clear();
  rates.spectral.clear();
  rates.compressors.clear();
  device.products(largest, rates);
  device.spectral(largest, rates);
  device.memory(rates);
  device.compressors(rates);
  dist::HostRates alone = rates;
  alone.ranks = 0;
  device.traffic(alone, rates.forward_traffic, rates.backward_traffic);
}

}  // namespace muonp::launch
