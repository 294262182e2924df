#include "launch/train/metrics_observer.h"

namespace muonp::launch {

void MetricsObserver::started(const RunStart& start) {
  if (!start.over) file_ = std::make_unique<MetricsWriter>(path_, start.step + 1);
}

void MetricsObserver::stepped(const RunStep& s) {
  file_->write({{"step", s.progress.step},
                {"loss", s.outcome.loss},
                {"lr", s.lr},
                {"grad_norm", s.outcome.report.gradient_norm},
                {"seconds", s.progress.seconds},
                {"tokens", s.progress.tokens},
                {"counted_tokens", s.outcome.counted},
                {"sent_bytes", s.sent_bytes},
                {"step_seconds", s.outcome.total_seconds},
                {"spectral_seconds", s.outcome.report.spectral_seconds},
                {"communication_seconds", s.outcome.report.communication_seconds},
                {"skipped", s.outcome.report.skipped},
                {"spike", s.spike}});
}

void MetricsObserver::validated(const RunValidation& v) {
  file_->write({{"step", v.progress.step},
                {"val_loss", v.loss},
                {"seconds", v.progress.seconds},
                {"tokens", v.progress.tokens},
                {"counted_tokens", v.counted},
                {"sent_bytes", v.sent_bytes}});
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
