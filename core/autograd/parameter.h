// A tensor of a model's weights. The model names it and uses it; who trains it decides where its memory lies.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/device/tensor.h"

namespace muonp::core {

// lora_a, lora_b: the factors of a low-rank adapter (ops/linear.h).
enum class ParameterKind : std::uint8_t { matrix, embedding, head, vector, lora_a, lora_b };
std::string_view name_of(ParameterKind kind);

struct Initializer {
  enum class Kind : std::uint8_t { zeros, ones, normal } kind = Kind::zeros;
  double stddev = 0;
};

struct Parameter {
  std::string name;                            // "blocks.3.attention.qkv.weight"
  Shape shape;                                 // matrices: [outputs, inputs]
  ParameterKind kind = ParameterKind::vector;  // what it is in the model; optimizer groups may select by it
  Initializer init;

  Tensor value;     // read by the forward pass; the compute dtype; shape `shape`
  Tensor gradient;  // float32, shape `shape`; storage lent by the GradientSink, may be empty between steps

  // A frozen one keeps its initial value: no gradient of it is computed, sent or kept, and it has no optimizer state.
  bool trained = true;
  // Of a factor of a low-rank adapter: the other factor, and what the product of the two is multiplied by.
  Parameter* partner = nullptr;
  double product_scale = 1;

  std::int64_t size() const { return element_count(shape); }
};

// In order of first use in the forward pass. Pointers stay valid as long as the model lives.
using ParameterList = std::vector<Parameter*>;

// In the order of `all`.
ParameterList trained_of(const ParameterList& all);
ParameterList frozen_of(const ParameterList& all);

// Elements [begin, begin + count) of the parameter's initial value, as float32, written to `to`. Depends on (seed,
// name, element index) only, so that any rank can make any part.
void initialize(const Parameter& parameter, std::uint64_t seed, std::int64_t begin, std::int64_t count, float* to);

// Where initial values come from: writes elements [begin, begin + count) of a parameter's, as float32, to `to`. The random
// ones of a seed, for example, or those of a file.
using WeightFiller = std::function<void(const Parameter&, std::int64_t begin, std::int64_t count, float* to)>;
WeightFiller random_weights(std::uint64_t seed);

}  // namespace muonp::core
