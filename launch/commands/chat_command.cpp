// muonp chat: a conversation with a model, in the terminal or through pipes.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>

#include "core/data/finetuning/example_encoder.h"
#include "launch/commands/model_arguments.h"
#include "launch/inference/conversation.h"
#include "launch/inference/text_stream.h"
#include "launch/inference/writing.h"
#include "launch/program/signals.h"

namespace muonp::launch {
namespace {

struct Arguments {
  ModelArguments model;
  std::string system;
  std::int64_t tokens = 512, seed = 1;
  models::SamplingOptions sampling{.temperature = 0.7, .top_p = 0.9};
  std::vector<std::string> stops;
};

bool print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
  return std::ferror(stdout) == 0;
}

// Answers end with the model's stop tokens, and with the tokenizer's end, which ends a turn in many templates.
Subject talker(Session& session, const TrainedModel& trained) {
  Subject subject = subject_of(session, trained);
  if (const std::int32_t end = trained.tokenizer->end(); end >= 0) subject.stop_tokens.push_back(end);
  require_fitting_tokenizer(subject);
  return subject;
}

Conversation open_conversation(const Arguments& a, const TrainedModel& trained) {
  auto chat = core::open_chat_template(trained.config.data, *trained.tokenizer);
  if (!chat)
    core::fail(
        "{}: there is no chat template: no chat_template.jinja, and none in tokenizer_config.json; "
        "`muonp generate` goes on from a text without one",
        a.model.source.path);
  const std::int64_t context = trained.model->context();
  return {std::move(*chat), *trained.tokenizer, a.system, context, std::min(a.tokens, context / 4)};
}

// What was said before Ctrl-C stays an answer; another signal ends the program.
std::string answer(const Subject& subject, const Arguments& a, std::vector<std::int32_t> prompt) {
  const StopSignals signals;
  std::string said;
  const OnText on_text = [&](std::size_t, const std::string& part) {
    said += part;
    return print(part);
  };
  const models::Prompt prompts[] = {{std::move(prompt), static_cast<std::uint64_t>(a.seed)}};
  try {
    Passes passes(subject, 1, {});
    write_texts(subject, passes, prompts, {.tokens = a.tokens, .sampling = a.sampling, .stops = a.stops}, on_text);
  } catch (const Interrupted& stop) {
    if (stop.signal() != SIGINT) throw;
  }
  print("\n");
  return said;
}

void talk(const Subject& subject, const Arguments& a, Conversation& conversation, const std::string& line,
          const core::Log& log) {
  std::vector<std::int32_t> prompt;
  try {
    prompt = conversation.ask(line);
  } catch (const core::Error& error) {
    return log.warn("{}", error.what());
  }
  if (conversation.forgotten() > 0)
    log.warn("the conversation is longer than the model's context; {} of the oldest messages are forgotten",
             conversation.forgotten());
  conversation.answered(answer(subject, a, std::move(prompt)));
}

int run(Session& session, const Arguments& a) {
  check_stops(a.stops);
  const TrainedModel trained = open_trained_model(session, a.model.source);
  const Subject subject = talker(session, trained);
  Conversation conversation = open_conversation(a, trained);
  const bool terminal = isatty(STDIN_FILENO) != 0;
  if (terminal)
    session.log().info("{}\n/reset begins anew, /exit ends; Ctrl-C ends an answer.", trained.model->description());
  for (std::string line; (!terminal || print("> ")) && std::getline(std::cin, line) && std::ferror(stdout) == 0;) {
    if (line.ends_with('\r')) line.pop_back();
    if (line == "/exit") return 0;
    if (line == "/reset")
      conversation.reset();
    else if (!line.empty())
      talk(subject, a, conversation, line, session.log());
  }
  if (terminal) print("\n");
  return 0;
}

}  // namespace

void add_chat_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("chat", "A conversation with a model, by its chat template");
  auto a = std::make_shared<Arguments>();
  add_model_arguments(*command, a->model);
  command->add_option("--system", a->system, "What the system says first (default: what the template says)")
      ->type_name("TEXT");
  add_integer_option(*command, "--tokens", a->tokens, {.min = 1, .max = 1 << 30}, "Of an answer, at most");
  add_sampling_options(*command, a->sampling);
  add_stop_option(*command, a->stops);
  add_integer_option(*command, "--seed", a->seed, kSeeds, "The same seed gives the same answers");
  command->footer(
      "Each line of standard input is a message; its answer is printed as it is made. /reset begins a new conversation, "
      "/exit\n"
      "or the end of the input ends it, Ctrl-C ends an answer. Where a conversation grows longer than the model's context, "
      "its\n"
      "oldest messages are forgotten with their answers; the system's stays.\n"
      "Examples:\n"
      "  muonp chat models/SmolLM2-135M-Instruct\n"
      "  muonp chat runs/gsm8k --system 'Answer with a number.' --temperature 0\n"
      "  echo 'What is the capital of France?' | muonp chat models/SmolLM2-135M-Instruct");
  command->callback([a, &context] {
    context.session.threads = a->model.threads;
    context.run = [a](Session& session) { return run(session, *a); };
  });
}

}  // namespace muonp::launch
