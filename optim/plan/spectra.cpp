#include "optim/plan/spectra.h"

#include <algorithm>
#include <cctype>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/base/pattern.h"
#include "optim/plan/execution_plan.h"
#include "optim/spectral/spectrum.h"

namespace muonp::optim {

using core::at;

namespace {

bool is_number(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](unsigned char c) { return std::isdigit(c) != 0; });
}

// Places of a batch, whose matrices are `parts` parts of each entry of a stack, from part `first` on.
void add_places(const MatrixBatch& batch, bool stacked, const Split* split, std::int64_t parts, std::int64_t first,
                std::vector<MatrixPlace>& to) {
  for (std::int64_t i = 0; i < batch.count; ++i) {
    MatrixPlace place{batch.offset + i * batch.apart, batch.rows, batch.cols, batch.pitch, ""};
    if (stacked) place.label = fmt::format("[{}]", i / parts);
    if (split != nullptr) place.label += fmt::format("[{}]", split->parts[at(first + i % parts)]);
    to.push_back(std::move(place));
  }
}

}  // namespace

std::vector<MatrixPlace> matrices_of(const std::string& name, const core::Shape& shape, const Split* split) {
  const std::vector<MatrixBatch> batches = matrix_batches(name, shape, split);
  const bool stacked = shape.size() == 3;
  // A split into rows of one size is one batch with all parts; of any other, each part is one.
  const auto parts = split != nullptr && batches.size() == 1 ? std::ssize(split->parts) : 1;
  std::vector<MatrixPlace> places;
  for (std::size_t b = 0; b < batches.size(); ++b)
    add_places(batches[b], stacked, split, parts, static_cast<std::int64_t>(b), places);
  return places;
}

std::string kind_of(const std::string& name, const std::string& label) {
  std::vector<std::string_view> kept;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view component = std::string_view(name).substr(begin, end - begin);
    if (!is_number(component)) kept.push_back(component);
    begin = end + 1;
  }
  std::string kind = fmt::format("{}", fmt::join(kept, "."));
  const std::size_t last = label.rfind('[');
  if (last == std::string::npos) return kind;
  std::string_view part = std::string_view(label).substr(last + 1, label.size() - last - 2);
  if (const std::size_t space = part.rfind(' '); space != std::string_view::npos && is_number(part.substr(space + 1)))
    part = part.substr(0, space);
  return is_number(part) ? kind : fmt::format("{}[{}]", kind, part);
}

bool is_measured(std::span<const std::string> patterns, const std::string& name) {
  return std::ranges::any_of(patterns, [&](const std::string& pattern) { return core::matches_pattern(pattern, name); });
}

void require_measurable(std::span<const std::string> patterns, const core::ParameterList& parameters, const Groups& groups) {
  if (patterns.empty()) return;
  std::vector<std::string> names;
  for (int p = 0; p < static_cast<int>(parameters.size()); ++p)
    if (groups.group_for(p).config.whole_matrices()) names.push_back(parameters[at(p)]->name);
  if (names.empty())
    core::fail(
        "log.spectra_every: no group of this run has a rule that moves whole matrices, and only these are measured; "
        "valid is 0");
  for (const std::string& pattern : patterns)
    if (std::ranges::none_of(names, [&](const std::string& name) { return core::matches_pattern(pattern, name); }))
      core::fail("log.spectra: pattern {} matches no matrix that a rule moves whole; the nearest are {}", pattern,
                 core::nearest_to_pattern(pattern, names));
}

std::int64_t measuring_bytes(std::span<const std::string> patterns, const dist::OwnerPlan& owners, const Groups& groups,
                             const std::vector<dist::ParameterSpec>& specs, core::DeviceKind device, int rank, int wave) {
  std::vector<spectral::Measured> matrices;
  for (const int t : owners.wave(wave)) {
    const int p = owners.tasks()[at(t)].parameter;
    const dist::ParameterSpec& spec = specs[at(p)];
    if (owners.owner(t) != rank || !is_measured(patterns, spec.name)) continue;
    for (const MatrixPlace& place : matrices_of(spec.name, spec.shape, groups.split_of(p))) {
      const core::MatrixView view(nullptr, place.rows, place.cols, place.pitch);
      matrices.push_back({view, view, view});
    }
  }
  return spectral::spectra_bytes(matrices, device);
}

double measuring_flops(std::span<const std::string> patterns, const dist::OwnerPlan& owners, const Groups& groups,
                       const std::vector<dist::ParameterSpec>& specs, core::DeviceKind device) {
  double flops = 0;
  for (const dist::MatrixTask& task : owners.tasks()) {
    const dist::ParameterSpec& spec = specs[at(task.parameter)];
    if (!is_measured(patterns, spec.name)) continue;
    for (const MatrixPlace& place : matrices_of(spec.name, spec.shape, groups.split_of(task.parameter)))
      flops += spectral::spectra_flops(place.rows, place.cols, device);
  }
  return flops;
}

double ExecutionPlan::spectra_flops() const {
  if (compression && compression->matrices() > 0)
    return measuring_flops(options.spectra, compression->owners, compression->groups, compression->specs, options.device);
  return measuring_flops(options.spectra, owners, sharded_groups, shards.parameters(), options.device);
}

// Weights of a wave beside scratch memory: those of owned matrices from all ranks, and, where masters are in host memory,
// this rank's part of every matrix.
std::int64_t ExecutionPlan::measuring_of(int rank, int wave) const {
  std::int64_t weights = 0;
  bool any = false;
  for (const int t : owners.wave(wave)) {
    const int p = owners.tasks()[core::at(t)].parameter;
    any = any || is_measured(options.spectra, shards.parameters()[core::at(p)].name);
    const std::int64_t whole = shards.in_bucket(p).count();
    if ((zero.keeps_slice || owners.is_shared(t)) && owners.owns(rank, t)) weights += owners.share_elements(t);
    if (options.offload && options.weight_dtype != core::Dtype::float32)
      weights += zero.keeps_slice ? shards.piece(p, rank).count() : whole;
  }
  if (!any) return 0;
  return 4 * weights +
         measuring_bytes(options.spectra, owners, sharded_groups, shards.parameters(), options.device, rank, wave);
}

}  // namespace muonp::optim
