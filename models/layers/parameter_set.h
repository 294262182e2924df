// The parameters of one model: made in order of first use, at addresses that stay.
#pragma once

#include <deque>
#include <string>

#include "core/autograd/parameter.h"

namespace muonp::models {

class ParameterSet {
 public:
  ParameterSet() = default;
  ParameterSet(const ParameterSet&) = delete;
  ParameterSet& operator=(const ParameterSet&) = delete;

  // InternalError if the name is taken.
  core::Parameter& add(std::string name, core::Shape shape, core::ParameterKind kind, core::Initializer init);

  const core::ParameterList& list() const { return list_; }
  std::int64_t elements() const;

 private:
  std::deque<core::Parameter> storage_;
  core::ParameterList list_;
};

inline core::Initializer normal_init(double stddev) { return {core::Initializer::Kind::normal, stddev}; }
inline core::Initializer ones_init() { return {core::Initializer::Kind::ones, 0}; }
inline core::Initializer zeros_init() { return {core::Initializer::Kind::zeros, 0}; }

}  // namespace muonp::models
