// muonp generate: text from a run's model.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "core/data/tokenizer.h"
#include "launch/cli.h"
#include "launch/trained_model.h"
#include "models/sampling.h"

namespace muonp::launch {
namespace {

struct Arguments {
  std::string run, checkpoint = "latest", prompt = "\n";
  std::int64_t tokens = 200;
  models::SamplingOptions sampling{0.8, 50, 1};
  int threads = 0;
};

int run(Session& session, const Arguments& a) {
  TrainedModel trained = load_trained_model(session.device(), a.run, a.checkpoint);
  const core::TokenizerHandle tokenizer = core::open_tokenizer(trained.config.data.tokenizer);
  if (tokenizer->vocabulary() > trained.model->vocabulary())
    core::fail("{}: the tokenizer {} has {} ids, the model {}; name the tokenizer it was trained with", a.run,
               tokenizer->name(), tokenizer->vocabulary(), trained.model->vocabulary());
  const std::vector<std::int32_t> prompt = tokenizer->encode(a.prompt);
  if (prompt.empty()) core::fail("--prompt: at least one character is needed to start from");
  const auto print = [](std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  print(a.prompt);
  models::generate(session.device(), *trained.model, prompt, a.tokens, a.sampling, [&](std::int32_t token) {
    if (token < tokenizer->vocabulary()) print(tokenizer->piece(token));
    return std::ferror(stdout) == 0;  // more would be for nobody
  });
  print("\n");
  return 0;
}

}  // namespace

void add_generate_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("generate", "Text from a trained model");
  auto a = std::make_shared<Arguments>();
  command->add_option("RUN", a->run, "Folder of the run (<run.dir>/<run.name>)")->required();
  command
      ->add_option("--checkpoint", a->checkpoint,
                   "latest, a step, a checkpoint's folder, or a file from `muonp checkpoint export`")
      ->capture_default_str();
  command->add_option("--prompt", a->prompt, "Text to go on from (default: a new line)");
  command->add_option("--tokens", a->tokens, "Tokens to make")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--temperature", a->sampling.temperature, "0 takes the likeliest token every time")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--top-k", a->sampling.top_k, "Choose among the K likeliest tokens; 0 for all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--seed", a->sampling.seed, "The same seed gives the same text")->capture_default_str();
  command->add_option("--threads", a->threads, "Threads; 0 for all cores")->check(CLI::NonNegativeNumber);
  command->footer(
      "Examples:\n"
      "  muonp generate runs/quickstart-p-1-2 --prompt 'In the beginning' --tokens 100\n"
      "  muonp generate runs/quickstart-p-1-2 --temperature 0");
  command->callback([a, &context] {
    context.session.threads = a->threads;
    context.run = [a](Session& session) { return run(session, *a); };
  });
}

}  // namespace muonp::launch
