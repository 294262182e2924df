// What eval, generate and chat have in common: the model that they open, and how texts are chosen.
#pragma once

#include "launch/commands/cli.h"
#include "launch/train/trained_model.h"
#include "models/generation/sampling.h"

namespace muonp::launch {

struct ModelArguments {
  ModelSource source;
  std::string transport = "nccl";
  std::int64_t threads = 0;
};

// FOLDER_OR_RUN, --checkpoint, --compute, --transport, --threads.
void add_model_arguments(CLI::App& command, ModelArguments& arguments);
// --temperature, --top-k, --top-p, --repetition-penalty.
std::vector<CLI::Option*> add_sampling_options(CLI::App& command, models::SamplingOptions& sampling);
// --stop, as often as wanted.
CLI::Option* add_stop_option(CLI::App& command, std::vector<std::string>& stops);

// Of a command over all processes that mpirun started.
SessionSettings session_settings(const ModelArguments& arguments, const std::string& command);

}  // namespace muonp::launch
