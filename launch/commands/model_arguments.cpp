#include "launch/commands/model_arguments.h"

#include <CLI/CLI.hpp>

namespace muonp::launch {

void add_model_arguments(CLI::App& command, ModelArguments& a) {
  command.add_option("FOLDER_OR_RUN", a.source.path, "A Hugging Face folder, or the folder of a run (<run.dir>/<run.name>)")
      ->required();
  command
      .add_option("--checkpoint", a.source.checkpoint,
                  "Of a run: latest, a step, a checkpoint's folder, or a file from `muonp checkpoint export`")
      ->capture_default_str();
  command
      .add_option("--compute", a.source.compute,
                  "Type of weights and activations: float32 or bfloat16 (default: the run's, float32 for a folder)")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->type_name("TYPE");
  command.add_option("--transport", a.transport, "Of ranks with GPUs: nccl or mpi, as parallel.transport")
      ->check(CLI::IsMember({"nccl", "mpi"}))
      ->type_name("NAME")
      ->capture_default_str();
  add_threads_option(command, a.threads);
}

std::vector<CLI::Option*> add_sampling_options(CLI::App& command, models::SamplingOptions& s) {
  return {add_real_option(command, "--temperature", s.temperature, {.min = 0}, "0 takes the likeliest token every time"),
          add_integer_option(command, "--top-k", s.top_k, {.min = 0}, "Choose among the K likeliest tokens; 0 for all"),
          add_real_option(command, "--top-p", s.top_p, {.min = 1e-6, .max = 1},
                          "Choose among the fewest likeliest tokens of at least this probability"),
          add_real_option(command, "--repetition-penalty", s.repetition_penalty, {.min = 1e-6, .max = 1e6},
                          "Tokens that the text has are made less likely by it; 1 for no change")};
}

CLI::Option* add_stop_option(CLI::App& command, std::vector<std::string>& stops) {
  return command
      .add_option("--stop", stops, "A string that ends the text, before it (repeatable); stop tokens of the model do anyway")
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false)
      ->type_name("STRING");
}

SessionSettings session_settings(const ModelArguments& arguments, const std::string& command) {
  SessionSettings settings;
  settings.threads = arguments.threads;
  settings.staged = arguments.transport == "mpi";
  settings.ranks = true;
  settings.alike = {{"the command", command}, {"the model", arguments.source.path}};
  return settings;
}

}  // namespace muonp::launch
