#include "launch/evaluation/task.h"

#include <fmt/format.h>

#include "launch/evaluation/kinds.h"

namespace muonp::launch {

std::string text_of(const TaskNumber& number) { return fmt::format("{:.{}f}", number.value, number.count ? 0 : 4); }

std::unique_ptr<Task> open_task(const TaskConfig& config, const core::DataConfig& data, const Subject& subject) {
  require_fitting_tokenizer(subject);
  if (config.kind == "choices") return open_choice_task(config, subject);
  if (config.kind == "exact") return open_exact_task(config, data, subject);
  return open_text_task(config, subject);
}

}  // namespace muonp::launch
