// The parameters of one model: made in order of first use, at addresses that stay.
#pragma once

#include <deque>
#include <set>
#include <string>
#include <vector>

#include "core/autograd/ops/linear.h"
#include "core/autograd/parameter.h"
#include "models/layers/lora.h"

namespace muonp::models {

class ParameterSet {
 public:
  // Where `lora` is on, parameters are frozen and linear layers that it chooses have adapters.
  explicit ParameterSet(LoraConfig lora = {}) : lora_(std::move(lora)) {}
  ParameterSet(const ParameterSet&) = delete;
  ParameterSet& operator=(const ParameterSet&) = delete;

  // InternalError if the name is taken.
  core::Parameter& add(std::string name, core::Shape shape, core::ParameterKind kind, core::Initializer init);

  // The adapter of the linear layer `path`, if it is to have one: A normal with variance 1 / (3 inputs), that of PEFT's
  // uniform one; B zero.
  core::ops::LowRank add_adapter(const std::string& path, std::int64_t outputs, std::int64_t inputs);
  // When all layers are made. Error for a pattern of modules that matches none.
  void require_modules() const;

  const LoraConfig& lora() const { return lora_; }
  const core::ParameterList& list() const { return list_; }
  std::int64_t elements() const;

 private:
  core::Parameter& add_factor(const std::string& name, core::Shape shape, core::ParameterKind kind, core::Initializer init);

  LoraConfig lora_;
  std::vector<std::string> linears_;  // paths
  std::set<std::string> matched_;     // patterns
  std::deque<core::Parameter> storage_;
  core::ParameterList list_;
};

inline core::Initializer normal_init(double stddev) { return {core::Initializer::Kind::normal, stddev}; }
inline core::Initializer ones_init() { return {core::Initializer::Kind::ones, 0}; }
inline core::Initializer zeros_init() { return {core::Initializer::Kind::zeros, 0}; }

}  // namespace muonp::models
