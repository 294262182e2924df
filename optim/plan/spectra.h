// Which matrices spectral diagnostics measure (docs/diagnostics.md), what they are called, and what memory it takes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/autograd/parameter.h"
#include "core/device/device.h"
#include "dist/plan/owner_plan.h"
#include "dist/plan/shard_plan.h"
#include "optim/plan/groups.h"

namespace muonp::optim {

// A matrix of a parameter, as rules see it: row r begins at element offset + r·pitch. The label is what stands behind the
// parameter's name: "", "[3]" in a stack, "[q]" in a split, "[3][q]".
struct MatrixPlace {
  std::int64_t offset = 0, rows = 0, cols = 0, pitch = 0;
  std::string label;
};
std::vector<MatrixPlace> matrices_of(const std::string& name, const core::Shape& shape, const Split* split);

// What layers have in common: the name without the components that are numbers, and the label without them; the heads of a
// split by heads are one kind. "blocks.attention.qkv.weight[q]".
std::string kind_of(const std::string& name, const std::string& label);

bool is_measured(std::span<const std::string> patterns, const std::string& name);

// Error for a pattern that chooses no parameter whose rule needs whole matrices, with the nearest names.
void require_measurable(std::span<const std::string> patterns, const core::ParameterList& parameters, const Groups& groups);

// Bytes of scratch memory in which a rank measures the matrices that it owns in a wave.
std::int64_t measuring_bytes(std::span<const std::string> patterns, const dist::OwnerPlan& owners, const Groups& groups,
                             const std::vector<dist::ParameterSpec>& specs, core::DeviceKind device, int rank, int wave);

// Floating-point operations of all ranks in a step that measures.
double measuring_flops(std::span<const std::string> patterns, const dist::OwnerPlan& owners, const Groups& groups,
                       const std::vector<dist::ParameterSpec>& specs, core::DeviceKind device);

}  // namespace muonp::optim
