#include "optim/plan/compression.h"

#include <limits>

#include "core/base/index.h"
#include "core/base/math.h"
#include "dist/comm/operation.h"

namespace muonp::optim {

namespace {

constexpr const char* kNone = "none";
constexpr std::string_view kOthers[] = {kNone, "int8"};

// κ of estimates in fewer bits (docs/compression.md): the rounding errors that the owner's mean has are then those of
// about 1/(1 − κ²) = 25 rounds.
constexpr float kKeepOfNarrow = 0.98f;

std::optional<dist::CompressorSpec> spec_of(const char* key, const std::string& text) {
  if (text == kNone) return std::nullopt;
  try {
    return dist::parse_compressor(text);
  } catch (const core::Error& e) {
    core::fail("compression.{}: {}, or none", key, e.what());
  }
}

std::vector<dist::ParameterSpec> flat_specs(const core::ParameterList& parameters, const dist::OwnerPlan& owners) {
  std::vector<dist::ParameterSpec> specs = specs_of(parameters);
  for (const dist::MatrixTask& task : owners.tasks()) specs[core::at(task.parameter)].shape = {0};
  return specs;
}

// Messages are numbered by int.
void require_countable(std::size_t matrices, std::size_t buckets, int world_size) {
  const double messages = static_cast<double>(matrices) + static_cast<double>(buckets) * world_size;
  if (messages > std::numeric_limits<int>::max())
    core::fail(
        "compression.others: int8: {} buckets on {} ranks make more than {} messages; a larger parallel.bucket_mib makes "
        "fewer",
        buckets, world_size, std::numeric_limits<int>::max());
}

}  // namespace

std::vector<dist::ParameterSpec> specs_of(const core::ParameterList& parameters) {
  std::vector<dist::ParameterSpec> specs;
  for (const core::Parameter* p : parameters) specs.push_back({p->name, p->shape});
  return specs;
}

core::ParameterList chosen(const core::ParameterList& parameters, const std::vector<int>& indices) {
  core::ParameterList result;
  for (const int i : indices) result.push_back(parameters[core::at(i)]);
  return result;
}

CompressionOptions parse_compression(const std::string& to_owner, const std::string& to_workers, const std::string& others,
                                     const std::string& state_dtype) {
  CompressionOptions options{spec_of("to_owner", to_owner), spec_of("to_workers", to_workers),
                             place_among(kOthers, others, "compression.others") == 1,
                             static_cast<StateDtype>(place_among(kStateDtypes, state_dtype, "compression.state_dtype"))};
  if (options.to_owner.has_value() != options.to_workers.has_value())
    core::fail(
        "compression.{} is none, but compression.{} is {}: both directions are compressed or neither is; "
        "identity sends everything",
        options.to_owner ? "to_workers" : "to_owner", options.to_owner ? "to_owner" : "to_workers",
        options.to_owner ? to_owner : to_workers);
  if (!options.any() && options.state_dtype != StateDtype::float32)
    core::fail(
        "compression.state_dtype is {}, and nothing is compressed: it is of the estimates that compression keeps; leave it "
        "out, "
        "or set compression.to_owner and to_workers, or others",
        state_dtype);
  return options;
}

std::string CompressionOptions::text() const {
  if (!any()) return kNone;
  const std::string of_matrices =
      matrices() ? fmt::format("matrices {} to owners, {} to workers", to_owner->text(), to_workers->text())
                 : "matrices not";
  const std::string of_estimates =
      state_dtype == StateDtype::float32 ? "" : fmt::format("; estimates {}", kStateDtypes[static_cast<int>(state_dtype)]);
  return fmt::format("{}; others {}{}", of_matrices, others ? "int8" : "not", of_estimates);
}

std::vector<int> compressed_parameters(const core::ParameterList& parameters, const Groups& groups,
                                       const CompressionOptions& options) {
  std::vector<int> chosen;
  for (int p = 0; p < core::to_int(parameters.size()); ++p) {
    const bool matrix = groups.group_for(p).config.whole_matrices();
    if (parameters[core::at(p)]->size() > 0 && (matrix ? options.matrices() : options.others)) chosen.push_back(p);
  }
  return chosen;
}

dist::Interval CompressionPlan::kept(int parameter, int rank) const {
  if (groups.group_for(parameter).config.whole_matrices()) return {0, core::element_count(specs[core::at(parameter)].shape)};
  return flat.piece(parameter, rank);
}

std::vector<CompressionPlan::EstimatePiece> CompressionPlan::estimate_pieces(int matrix) const {
  if (matrix < matrices()) {
    const dist::MatrixTask& task = owners.tasks()[core::at(matrix)];
    return {{task.parameter, {0, task.elements}, 0}};
  }
  const int bucket = (matrix - matrices()) / flat.world_size(), rank = (matrix - matrices()) % flat.world_size();
  std::vector<EstimatePiece> pieces;
  for (const int p : flat.buckets()[core::at(bucket)].parameters)
    if (const dist::Interval piece = flat.piece(p, rank); !piece.empty())
      pieces.push_back({p, piece, flat.in_bucket(p).begin + piece.begin - flat.slice(bucket, rank).begin});
  return pieces;
}

std::int64_t CompressionPlan::snapshot_bytes(int rank) const {
  const int ranks = flat.world_size();
  std::int64_t elements = 0;
  for (int i = 0; i < matrices(); ++i) {  // a share of W; states (the momentum), estimate; the owner's G and X
    const dist::FeedbackMatrix& m = feedback.matrices[core::at(i)];
    const Rule& rule = *groups.group_for(owners.tasks()[core::at(i)].parameter).config.rule;
    const auto states = static_cast<std::int64_t>(rule.states_of(Home::shard).size());
    elements += dist::cut(m.size(), ranks, rank).count + (states + 1) * m.size();
    elements += dist::make_compressor(m.to_owner, m.rows, m.cols)->state_elements();
    if (m.owner != rank) continue;
    elements += 2 * m.size() + dist::make_compressor(m.to_workers, m.rows, m.cols)->state_elements();
  }
  for (const Group& group : groups.groups()) {
    if (group.config.whole_matrices()) continue;
    const auto states = static_cast<std::int64_t>(group.config.rule->states_of(Home::shard).size());
    for (const int p : group.parameters) {  // a share of W; the estimate; of the slice that is owned, G, X and states
      const std::int64_t size = flat.in_bucket(p).count();
      elements += dist::cut(size, ranks, rank).count + size + (2 + states) * flat.piece(p, rank).count();
    }
  }
  return 4 * elements;
}

CompressionPlan make_compression_plan(std::vector<int> chosen, const core::ParameterList& parameters, Groups groups,
                                      dist::OwnerPlan owners, const CompressionOptions& options, int world_size,
                                      std::int64_t bucket_elements) {
  dist::ShardPlan flat(flat_specs(parameters, owners), world_size, bucket_elements);
  dist::FeedbackPlan feedback;
  for (std::size_t t = 0; t < owners.tasks().size(); ++t) {
    const core::Parameter& p = *parameters[core::at(owners.tasks()[t].parameter)];
    const std::int64_t cols = p.shape.back();
    feedback.matrices.push_back(
        {p.name, p.size() / cols, cols, owners.owner(core::to_int(t)), *options.to_owner, *options.to_workers});
  }
  for (int w = 0; w < owners.waves(); ++w) feedback.waves.push_back(owners.wave(w));
  if (flat.padded_elements() > 0) {
    if (feedback.waves.empty()) feedback.waves.emplace_back();
    require_countable(feedback.matrices.size(), flat.buckets().size(), world_size);
    const dist::CompressorSpec int8{.kind = dist::CompressorKind::integer, .bits = 8};
    for (std::size_t b = 0; b < flat.buckets().size(); ++b)
      for (int r = 0; r < world_size; ++r) {
        feedback.waves.front().push_back(core::to_int(feedback.matrices.size()));
        const dist::Interval slice = flat.slice(core::to_int(b), r);
        feedback.matrices.push_back({fmt::format("bucket {} slice {}", b, r), 1, slice.count(), r, int8, int8});
      }
  }
  CompressionPlan plan{std::move(chosen),
                       specs_of(parameters),
                       std::move(groups),
                       std::move(owners),
                       std::move(flat),
                       std::move(feedback),
                       {options.state_dtype, Content::moment}};
  if (!plan.estimates.narrow()) return plan;
  plan.feedback.keep = kKeepOfNarrow;
  for (std::size_t i = 0; i < plan.feedback.matrices.size(); ++i)
    for (const auto& piece : plan.estimate_pieces(core::to_int(i)))
      plan.feedback.matrices[i].narrow_estimate_bytes +=
          stored_bytes(plan.estimates, piece.in_parameter.begin, piece.in_parameter.count());
  return plan;
}

}  // namespace muonp::optim
