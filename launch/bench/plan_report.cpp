#include "launch/bench/plan_report.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/index.h"
#include "core/base/units.h"
#include "launch/report/table.h"

namespace muonp::launch {

using optim::PhaseCost;
using optim::StepPhase;
using Json = nlohmann::ordered_json;

PlanReport make_plan_report(Planner& planner, bool search) {
  PlanReport report{.ranks = planner.ranks(),
                    .memory_of_rank = planner.memory_of_rank(),
                    .configured = planner.as_configured(),
                    .schemes = planner.schemes(),
                    .searched = search,
                    .best = {},
                    .fits = {}};
  if (search) report.best = planner.best();
  if (!report.configured.fits) report.fits = planner.that_fits(report.configured);
  return report;
}

namespace {

std::string bytes_text(double bytes) { return bytes < 0.5 ? std::string() : core::format_bytes(std::llround(bytes)); }

std::string bound_text(const optim::StepPrediction& step) {
  return fmt::format("{} {}", name_of(step.bound_by()), core::format_percent(step.bound_share()));
}

std::string_view bound_of(const PhaseCost& phase) {
  if (phase.exposed() <= 0) return "";
  const auto most = std::ranges::max_element(phase.critical);
  return dist::name_of(static_cast<dist::Bound>(most - phase.critical.begin()));
}

std::string phase_table(const Forecast& f, const std::string& caption) {
  Table table({"phase", "work", "memory moved", "sent", "alone", "adds", "bound by"},
              {Align::left, Align::right, Align::right, Align::right, Align::right, Align::right, Align::left});
  table.caption(caption);
  for (int p = 0; p < optim::kStepPhases; ++p) {
    const auto phase = static_cast<StepPhase>(p);
    const PhaseCost& cost = f.step.at(phase);
    if (cost.seconds <= 0) continue;
    table.add({std::string(name_of(phase)), cost.flops > 0 ? fmt::format("{:.4g} Gflop", cost.flops * 1e-9) : std::string(),
               bytes_text(cost.memory), bytes_text(cost.sent), core::format_duration(cost.seconds),
               core::format_duration(cost.exposed()), std::string(bound_of(cost))});
  }
  table.rule();
  table.add({"step", core::format_rate(f.tokens_per_second(), "tokens"), "", bytes_text(f.step.bytes_sent()), "",
             core::format_duration(f.step.seconds()), bound_text(f.step)});
  return table.render();
}

std::string memory_table(const PlanReport& r) {
  const MemoryForecast& m = r.configured.memory;
  Table table({"memory", "weights", "gradients", "optimizer", "exchange", "activations", "snapshot", "total", "there is"},
              std::vector<Align>(9, Align::right));
  const auto text = [](std::int64_t bytes) { return core::format_bytes(bytes); };
  table.add({fmt::format("rank {}", m.rank), text(m.bytes.weights), text(m.bytes.gradients), text(m.bytes.optimizer),
             text(m.bytes.exchange), text(m.activations), text(m.snapshot), text(m.total),
             text(std::llround(r.memory_of_rank))});
  return table.render();
}

std::string scheme_table(const PlanReport& r) {
  Table table({"scheme", "step", "tokens/s", "bound by", "imbalance", "sent", "memory", "fits"},
              {Align::left, Align::right, Align::right, Align::left, Align::right, Align::right, Align::right, Align::left});
  for (const Forecast& f : r.schemes)
    table.add({f.name, core::format_duration(f.step.seconds()), core::format_count(f.tokens_per_second()),
               bound_text(f.step), fmt::format("{:.3f}", f.imbalance), bytes_text(f.step.bytes_sent()),
               core::format_bytes(f.memory.total), f.fits ? "yes" : "no"});
  return table.render();
}

std::string choice_text(const char* what, const Forecast& from, const std::optional<Forecast>& to) {
  if (!to) return fmt::format("{}: no setting that was searched fits", what);
  const std::string changes = overrides(from.settings, to->settings);
  return fmt::format("{}: {}: {} a step, {}, {}", what, changes.empty() ? "as configured" : changes,
                     core::format_duration(to->step.seconds()), core::format_rate(to->tokens_per_second(), "tokens"),
                     core::format_bytes(to->memory.total));
}

}  // namespace

std::string plan_text(const PlanReport& r, const dist::Cluster& cluster, const std::string& model) {
  const std::string caption = fmt::format("{}, {} on {} rank{} of {} ({} rates): a prediction", model, r.configured.name,
                                          r.ranks, r.ranks == 1 ? "" : "s", cluster.name, cluster.source);
  std::string text = fmt::format("{}\n{}\n{}", phase_table(r.configured, caption), memory_table(r), scheme_table(r));
  if (!r.configured.fits) text += fmt::format("\n{}", choice_text("does not fit; what fits", r.configured, r.fits));
  if (r.searched) text += fmt::format("\n{}", choice_text("fastest that fits", r.configured, r.best));
  return text;
}

namespace {

Json phases_json(const optim::StepPrediction& step) {
  Json phases = Json::array();
  for (int p = 0; p < optim::kStepPhases; ++p) {
    const auto phase = static_cast<StepPhase>(p);
    const PhaseCost& cost = step.at(phase);
    Json bounds = Json::object();
    for (int b = 0; b < dist::kBounds; ++b)
      if (const double seconds = cost.critical[core::at(b)]; seconds > 0)
        bounds[std::string(name_of(static_cast<dist::Bound>(b)))] = seconds;
    phases.push_back({{"phase", name_of(phase)},
                      {"flops", cost.flops},
                      {"memory_traffic_bytes", cost.memory},
                      {"bytes_sent", cost.sent},
                      {"seconds_alone", cost.seconds},
                      {"seconds", cost.exposed()},
                      {"bound_seconds", bounds}});
  }
  return phases;
}

Json settings_json(const PlanSettings& s) {
  return {{"parallel.zero", s.zero},
          {"data.micro_batch", s.micro_batch},
          {"model.recompute", s.recompute ? "blocks" : "none"},
          {"parallel.bucket_mib", s.bucket_mib},
          {"parallel.wave_mib", s.wave_mib},
          {"parallel.prefetch", s.prefetch},
          {"parallel.owners", s.owners}};
}

Json forecast_json(const Forecast& f) {
  const MemoryForecast& m = f.memory;
  return {{"scheme", f.name},
          {"step_seconds", f.step.seconds()},
          {"tokens_per_second", f.tokens_per_second()},
          {"bound_by", name_of(f.step.bound_by())},
          {"bound_share", f.step.bound_share()},
          {"imbalance", f.imbalance},
          {"bytes_sent", f.step.bytes_sent()},
          {"memory_bytes", m.total},
          {"fits", f.fits},
          {"memory",
           {{"rank", m.rank},
            {"weights_bytes", m.bytes.weights},
            {"gradients_bytes", m.bytes.gradients},
            {"optimizer_bytes", m.bytes.optimizer},
            {"exchange_bytes", m.bytes.exchange},
            {"activations_bytes", m.activations},
            {"snapshot_bytes", m.snapshot},
            {"host_bytes", m.bytes.host}}},
          {"settings", settings_json(f.settings)},
          {"phases", phases_json(f.step)}};
}

Json or_null(const std::optional<Forecast>& forecast) { return forecast ? forecast_json(*forecast) : Json(nullptr); }

}  // namespace

nlohmann::ordered_json plan_json(const PlanReport& r) {
  Json json = {{"ranks", r.ranks}};
  json.update(forecast_json(r.configured));
  json["memory_of_rank_bytes"] = r.memory_of_rank;
  json["schemes"] = Json::array();
  for (const Forecast& f : r.schemes) json["schemes"].push_back(forecast_json(f));
  if (!r.configured.fits) json["what_fits"] = or_null(r.fits);
  if (r.searched) json["best"] = or_null(r.best);
  return json;
}

}  // namespace muonp::launch
