#include "launch/train/metrics_observer.h"

#include "launch/train/spectra_line.h"

namespace muonp::launch {

void MetricsObserver::started(const RunStart& start) {
  if (!start.over) file_ = std::make_unique<MetricsWriter>(path_, start.step + 1);
}

void MetricsObserver::stepped(const RunStep& s) {
  MetricFields fields = {{"step", s.progress.step},
                         {"loss", s.outcome.loss},
                         {"lr", s.lr},
                         {"grad_norm", s.outcome.report.gradient_norm},
                         {"seconds", s.progress.seconds},
                         {"tokens", s.progress.tokens},
                         {"counted_tokens", s.outcome.counted},
                         {"sent_bytes", s.sent_bytes},
                         {"step_seconds", s.outcome.total_seconds},
                         {"memory_bytes", s.memory_bytes},
                         {"spectral_seconds", s.outcome.report.spectral_seconds},
                         {"communication_seconds", s.outcome.report.communication_seconds},
                         {"skipped", s.outcome.report.skipped},
                         {"spike", s.spike}};
  if (s.outcome.logits) {
    fields.emplace_back("max_logit", s.outcome.logits->largest);
    fields.emplace_back("clipped_heads", s.outcome.logits->clipped);
  }
  for (const auto& [key, value] : s.exponents.numbers) fields.emplace_back(key, value);
  file_->write(fields);
  if (!s.outcome.report.spectra.empty())
    file_->write_line(spectra_line(s.progress.step, s.outcome.report.spectra_seconds, s.outcome.report.spectra));
}

void MetricsObserver::validated(const RunValidation& v) {
  file_->write({{"step", v.progress.step},
                {"val_loss", v.loss},
                {"seconds", v.progress.seconds},
                {"tokens", v.progress.tokens},
                {"counted_tokens", v.counted},
                {"sent_bytes", v.sent_bytes}});
}

void MetricsObserver::evaluated(const RunEvaluation& e) {
  std::vector<std::string> keys;
  for (const TaskNumber& number : e.numbers) keys.push_back(fmt::format("eval.{}.{}", e.task, number.name));
  MetricFields fields{{"step", e.progress.step}, {"seconds", e.progress.seconds}, {"tokens", e.progress.tokens}};
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const TaskNumber& number = e.numbers[i];
    if (number.count)
      fields.emplace_back(keys[i], static_cast<std::int64_t>(number.value));
    else
      fields.emplace_back(keys[i], number.value);
  }
  file_->write(fields);
}

void MetricsObserver::saved(const RunProgress& progress, const SaveReport& report) {
  file_->write({{"step", progress.step},
                {"checkpoint", report.step},
                {"checkpoint_bytes", report.bytes},
                {"checkpoint_blocked_seconds", report.blocked_seconds},
                {"checkpoint_longest_seconds", report.longest_seconds},
                {"checkpoint_total_seconds", report.total_seconds}});
}

}  // namespace muonp::launch
