// Reduction of gradients and the way of matrices through their owners, on integer-valued data, so that every
// result is exact whatever the number of ranks, the stage, the buckets or the waves. For any device and
// communicator.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "dist/zero/exact_transport.h"
#include "dist/zero/reducer.h"

namespace muonp::test {

// Odd shapes: one straddles buckets' ends and ranks, one is smaller than the world, one has one row, one is
// empty.
struct Model {
  std::vector<core::Parameter> parameters;
  core::ParameterList list;

  Model() {
    const std::vector<std::pair<std::string, core::Shape>> shapes = {
        {"a.weight", {5, 7}}, {"b.weight", {33, 41}}, {"b.bias", {33}},      {"c.weight", {1, 9}},
        {"d.weight", {0, 4}}, {"e.weight", {2, 2}},   {"f.weight", {64, 17}}};
    for (const auto& [name, shape] : shapes) parameters.push_back({name, shape, {}, {}, {}, {}});
    for (core::Parameter& p : parameters) list.push_back(&p);
  }
  std::vector<dist::ParameterSpec> specs() const {
    std::vector<dist::ParameterSpec> s;
    for (const core::Parameter& p : parameters) s.push_back({p.name, p.shape});
    return s;
  }
  std::vector<dist::MatrixTask> tasks() const {
    std::vector<dist::MatrixTask> t;
    for (std::size_t i = 0; i < parameters.size(); ++i)
      if (parameters[i].shape.size() == 2 && parameters[i].size() > 0)
        t.push_back({parameters[i].name,
                     static_cast<int>(i),
                     static_cast<double>(parameters[i].size()),
                     parameters[i].size(),
                     {{0, parameters[i].shape[1], parameters[i].shape[0], parameters[i].shape[1]}},
                     static_cast<int>(std::max(parameters[i].shape[0], parameters[i].shape[1]))});
    return t;
  }
};

struct Case {
  int stage, passes;
  bool overlap;
  std::int64_t bucket;
};
// Every stage, one and two passes, with and without overlap, with small, middling and single buckets.
std::vector<Case> cases();

// The sum over all samples, which is what the reducer must leave.
float total_gradient(int parameter, std::int64_t i);
// Writes the gradients of this rank's share of the samples, in `passes` backward passes, as a tape would.
void backward(core::Device& device, Model& model, dist::GradientReducer& reducer, int rank, int size, int passes);

void check_reduction(core::Device& device, dist::Communicator& communicator, const Case& s);
// Gathers, doubles and negates on the owner, scatters; returns every matrix as its owner saw it, of one that ranks share
// each one's part.
std::map<std::string, std::vector<float>> check_exchange(core::Device& device, dist::Communicator& communicator,
                                                         const Case& s, std::int64_t wave_elements,
                                                         dist::Owners owners = dist::Owners::whole);

}  // namespace muonp::test
