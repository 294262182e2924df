#include "launch/commands/compressor_table.h"

#include <algorithm>

#include "core/base/units.h"
#include "launch/report/table.h"

namespace muonp::launch {

namespace {

// The settings that the table shows of compressors that have one.
constexpr const char* kShown[] = {
    "identity",           "int8",   "int5",   "int4", "natural", "sign", "top_k 0.1", "top_k 0.01", "top_k_natural 0.1",
    "top_k_natural 0.01", "rank 4", "rank 16"};

std::vector<dist::CompressorSpec> specs_of(const optim::CompressionOptions& configured) {
  std::vector<dist::CompressorSpec> specs;
  for (const char* text : kShown) specs.push_back(dist::parse_compressor(text));
  for (const auto& spec : {configured.to_owner, configured.to_workers})
    if (spec && std::ranges::find(specs, *spec) == specs.end()) specs.push_back(*spec);
  return specs;
}

struct Matrix {
  std::int64_t rows, cols;
};

std::vector<Matrix> matrices_of(const StartFacts& facts) {
  std::vector<Matrix> matrices;
  const core::ParameterList& parameters = facts.model.parameters();
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    const std::int64_t size = parameters[p]->size();
    if (size == 0 || !facts.plan.groups.group_for(static_cast<int>(p)).config.whole_matrices()) continue;
    matrices.push_back({size / parameters[p]->shape.back(), parameters[p]->shape.back()});
  }
  if (matrices.empty())
    core::fail("no parameter belongs to a group whose rule moves matrices: there is nothing to compress");
  return matrices;
}

std::string uses_of(const dist::CompressorSpec& spec, const optim::CompressionOptions& configured) {
  std::string uses;
  if (configured.to_owner == spec) uses += "to owner";
  if (configured.to_workers == spec) uses += uses.empty() ? "to workers" : ", to workers";
  return uses;
}

}  // namespace

std::string compressor_table(const StartFacts& facts) {
  const std::vector<Matrix> matrices = matrices_of(facts);
  const optim::CompressionOptions& configured = facts.plan.options.compression;
  const int n = facts.plan.shards.world_size();
  std::int64_t elements = 0;
  for (const Matrix& m : matrices) elements += m.rows * m.cols;
  Table table({"compressor", "alpha", "bytes", "bits/element", "sent per rank", "used"},
              {Align::left, Align::right, Align::right, Align::right, Align::right, Align::left});
  for (const dist::CompressorSpec& spec : specs_of(configured)) {
    double least = 1;
    std::int64_t bytes = 0;
    for (const Matrix& m : matrices) {
      const auto compressor = dist::make_compressor(spec, m.rows, m.cols);
      least = std::min(least, compressor->alpha());
      bytes += compressor->wire_bytes();
    }
    table.add({spec.text(), fmt::format("{:.4f}", least), std::to_string(bytes),
               fmt::format("{:.3f}", 8 * static_cast<double>(bytes) / static_cast<double>(elements)),
               core::format_bytes(static_cast<std::int64_t>(static_cast<double>(bytes) * (n - 1) / n)),
               uses_of(spec, configured)});
  }
  return fmt::format(
      "{} matrices with {} elements, {} ranks. alpha: the least of all matrices, ‖C(X) − X‖² ≤ (1 − alpha)‖X‖².\n"
      "bytes: one message for each matrix, one direction. sent per rank: on average, a step, one direction.\n{}",
      matrices.size(), elements, n, table.render());
}

}  // namespace muonp::launch
