// Small models and batches for tests.
#pragma once

#include <memory>
#include <vector>

#include "core/autograd/plain_parameters.h"
#include "core/base/rng.h"
#include "models/gpt/gpt.h"
#include "tests/support/test_device.h"

namespace muonp::models::testing {

inline GptConfig tiny_config() {
  GptConfig c;
  c.layers = 2;
  c.heads = 2;
  c.width = 8;
  c.context = 6;
  c.vocabulary = 11;
  c.mlp_ratio = 2;
  return c;
}

// A model with its parameters, on a device of its own.
struct Instance {
  explicit Instance(const GptConfig& config, core::Dtype dtype = core::Dtype::float32)
      : Instance(config, dtype, test::make_test_device(2, core::Bfloat16::emulated)) {}
  Instance(const GptConfig& config, core::Dtype dtype, test::TestDevice on)
      : Instance(make_gpt(config), dtype, std::move(on)) {}
  explicit Instance(std::unique_ptr<LanguageModel> made, core::Dtype dtype = core::Dtype::float32)
      : Instance(std::move(made), dtype, test::make_test_device(2, core::Bfloat16::emulated)) {}
  Instance(std::unique_ptr<LanguageModel> made, core::Dtype dtype, test::TestDevice on)
      : device(std::move(on)), model(std::move(made)), plain(*device, model->parameters(), dtype, 1) {}

  core::Tensor ids(const std::vector<std::int32_t>& values, std::int64_t batch) const {
    const auto size = static_cast<std::int64_t>(values.size());
    const core::Tensor t = core::Tensor::on_host({batch, size / batch}, core::Dtype::int32);
    std::copy(values.begin(), values.end(), t.data<std::int32_t>());
    return t;
  }

  // Forward and backward; the loss. Gradients are added up until start_step().
  float step(const TokenBatch& batch, const DropoutKey& key = {}, float scale = 1) {
    core::Tape tape(*device, true);
    const core::Variable loss = model->loss(tape, batch, key);
    tape.backward(loss, scale, model->parameters(), plain);
    return test::value_of(loss->value);
  }

  test::TestDevice device;
  std::unique_ptr<LanguageModel> model;
  core::PlainParameters plain;
};

inline std::vector<std::int32_t> random_ids(std::int64_t count, std::int64_t vocabulary, std::uint64_t seed) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i)
    ids.push_back(static_cast<std::int32_t>(core::random_below(seed, 0, std::uint64_t(i), std::uint64_t(vocabulary))));
  return ids;
}

}  // namespace muonp::models::testing
