// muonp generate: text from a run's model.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "core/data/tokenizer/tokenizer.h"
#include "launch/commands/cli.h"
#include "launch/train/trained_model.h"
#include "models/generation/generate.h"

namespace muonp::launch {
namespace {

struct Arguments {
  std::string run, checkpoint = "latest", prompt = "\n";
  std::int64_t tokens = 200, seed = 1, threads = 0;
  models::SamplingOptions sampling{.temperature = 0.8, .top_k = 50};
  bool ids = false, anew = false;
};

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

int run(Session& session, const Arguments& a) {
  const TrainedModel trained = load_trained_model(session, a.run, a.checkpoint);
  const core::TokenizerHandle& tokenizer = trained.tokenizer;
  if (tokenizer->vocabulary() > trained.model->vocabulary())
    core::fail("{}: the tokenizer {} has {} ids, the model {}; name the tokenizer it was trained with", a.run,
               tokenizer->name(), tokenizer->vocabulary(), trained.model->vocabulary());
  const std::vector<std::int32_t> prompt = tokenizer->encode(a.prompt);
  if (prompt.empty()) core::fail("--prompt: at least one character is needed to start from");
  if (!a.ids) print(a.prompt);
  const models::Prompt prompts[] = {{prompt, static_cast<std::uint64_t>(a.seed)}};
  const models::GenerationOptions options{
      .tokens = a.tokens, .sampling = a.sampling, .stop_tokens = {}, .cache = !a.anew, .compute = trained.config.compute()};
  models::generate(session.device(), *trained.model, prompts, options, [&](std::size_t, std::int32_t token) {
    if (a.ids)
      print(fmt::format("{}\n", token));
    else if (token < tokenizer->vocabulary())
      print(tokenizer->piece(token));
    return std::ferror(stdout) == 0;  // more would be for nobody
  });
  if (!a.ids) print("\n");
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
  add_integer_option(*command, "--tokens", a->tokens, {.min = 1, .max = 1 << 30}, "Tokens to make");
  add_real_option(*command, "--temperature", a->sampling.temperature, {.min = 0}, "0 takes the likeliest token every time");
  add_integer_option(*command, "--top-k", a->sampling.top_k, {.min = 0}, "Choose among the K likeliest tokens; 0 for all");
  add_real_option(*command, "--top-p", a->sampling.top_p, {.min = 0, .max = 1},
                  "Choose among the fewest likeliest tokens of at least this probability");
  add_real_option(*command, "--repetition-penalty", a->sampling.repetition_penalty, {.min = 0},
                  "Tokens that the text has are made less likely by it; 1 for no change");
  command->add_flag("--ids", a->ids, "Print the ids of the new tokens, one a line, instead of text");
  command->add_flag("--no-cache", a->anew, "Read the whole text anew for every token: slow, for comparisons");
  add_integer_option(*command, "--seed", a->seed, kSeeds, "The same seed gives the same text");
  add_threads_option(*command, a->threads);
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
