// muonp generate: text from a model.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/base/index.h"
#include "core/data/finetuning/example_encoder.h"
#include "core/data/finetuning/json_line.h"
#include "core/data/finetuning/jsonl.h"
#include "launch/commands/model_arguments.h"
#include "launch/inference/text_stream.h"
#include "launch/inference/writing.h"
#include "launch/program/signals.h"

namespace muonp::launch {
namespace {

using nlohmann::json;

struct Arguments {
  ModelArguments model;
  std::string prompt = "\n", prompts, system;
  std::int64_t tokens = 200, seed = 1, batch = 8;
  models::SamplingOptions sampling{.temperature = 0.8, .top_k = 50};
  std::vector<std::string> stops;
  bool ids = false, as_json = false, chat = false, anew = false;
};

bool print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
  return std::ferror(stdout) == 0;
}

std::string prompt_of(std::string_view line, bool is_json) {
  if (!is_json) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    return std::string(line);
  }
  if (line.find_first_not_of(" \t") == line.find('"')) return json::parse(line).get<std::string>();
  static const core::FieldTemplate kPrompt("{prompt}", "--prompts");
  return core::fill_fields(kPrompt, core::parse_json_line(line));
}

std::vector<std::string> read_prompts(const Arguments& a) {
  if (a.prompts.empty()) return {a.prompt};
  const bool is_json = a.prompts.ends_with(".jsonl");
  std::vector<std::string> prompts;
  core::LinesReader reader({a.prompts});
  while (const auto part = reader.next(1 << 20))
    part->each_line([&](std::string_view line, std::int64_t number) {
      try {
        prompts.push_back(prompt_of(line, is_json));
      } catch (const std::exception& error) {
        core::fail("--prompts: {}:{}: {}", a.prompts, number, error.what());
      }
    });
  if (prompts.empty()) core::fail("--prompts: {} has no line; each is a prompt", a.prompts);
  return prompts;
}

// The prompts as what the model reads.
std::vector<models::Prompt> encode(const std::vector<std::string>& texts, const Arguments& a, const TrainedModel& trained,
                                   const Subject& subject) {
  std::optional<core::ChatTemplate> chat;
  if (a.chat) chat = core::open_chat_template(trained.config.data, *trained.tokenizer);
  if (a.chat && !chat) core::fail("--chat: {} has no chat template", a.model.source.path);
  std::vector<models::Prompt> prompts;
  for (const std::string& text : texts) {
    std::vector<core::ChatMessage> messages{{"user", text}};
    if (!a.system.empty()) messages.insert(messages.begin(), {"system", a.system});
    prompts.push_back(
        {chat ? trained.tokenizer->encode(chat->render(messages, true)) : encode_prompt(*trained.tokenizer, text),
         static_cast<std::uint64_t>(a.seed)});
    require_room(subject, prompts.back().tokens.size(),
                 texts.size() == 1 ? "--prompt" : fmt::format("prompt {}", prompts.size()));
  }
  return prompts;
}

void print_written(const Arguments& a, const std::string& prompt, const WrittenText& written, bool first) {
  if (a.ids) {
    print(fmt::format("{}\n", fmt::join(written.ids, " ")));
  } else if (a.as_json) {
    const nlohmann::ordered_json line{{"prompt", prompt}, {"text", written.text}, {"ids", written.ids}};
    print(line.dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
  } else {
    print(fmt::format("{}{}{}\n", first ? "" : "\n", a.chat ? "" : prompt, written.text));
  }
}

// Of all ranks, in the order of the prompts.
std::vector<WrittenText> gather(dist::Communicator& communicator, const std::map<std::size_t, WrittenText>& mine,
                                std::size_t count) {
  json list = json::array();
  for (const auto& [i, written] : mine) list.push_back({i, written.ids, written.text});
  const std::vector<std::uint8_t> packed = json::to_msgpack(list);
  std::vector<WrittenText> all(count);
  for (const std::string& bytes : communicator.all_gather_bytes({packed.begin(), packed.end()}))
    for (const json& entry : json::from_msgpack(bytes))
      all[entry[0].get<std::size_t>()] = {entry[1].get<std::vector<std::int32_t>>(), entry[2].get<std::string>()};
  return all;
}

std::vector<WrittenText> write_all(const Subject& subject, const std::vector<models::Prompt>& prompts,
                                   const WritingOptions& options, std::int64_t batch, const OnText& on_text) {
  std::map<std::size_t, WrittenText> mine;
  run_side_by_side(subject, std::ssize(prompts), {}, [&](Passes& passes) {
    const std::int64_t ranks = subject.communicator.size(), count = std::ssize(prompts);
    for (std::int64_t first = subject.communicator.rank() * batch; first < count; first += ranks * batch) {
      const std::span<const models::Prompt> part =
          std::span(prompts).subspan(core::at(first), core::at(std::min(batch, count - first)));
      std::vector<WrittenText> written = write_texts(subject, passes, part, options, on_text);
      for (std::size_t i = 0; i < written.size(); ++i) mine.emplace(core::at(first) + i, std::move(written[i]));
    }
  });
  return gather(subject.communicator, mine, prompts.size());
}

int run(Session& session, const Arguments& a) {
  const TrainedModel trained = open_trained_model(session, a.model.source);
  const Subject subject = subject_of(session, trained);
  std::vector<std::string> texts;
  std::vector<models::Prompt> prompts;
  dist::run_on_all(session.communicator(), [&] {
    require_fitting_tokenizer(subject);
    check_stops(a.stops);
    texts = read_prompts(a);
    prompts = encode(texts, a, trained, subject);
  });
  const WritingOptions options{
      .tokens = a.tokens, .sampling = a.sampling, .stops = a.stops, .within_context = false, .cache = !a.anew};
  const bool streams = texts.size() == 1 && !a.ids && !a.as_json;  // one text comes out as it is made, on rank 0
  if (streams && !a.chat && session.rank() == 0) print(texts.front());
  const OnText on_text = [&](std::size_t, const std::string& part) { return print(part); };
  const std::vector<WrittenText> written = write_all(subject, prompts, options, a.batch, streams ? on_text : OnText());
  if (session.rank() != 0) return 0;
  if (streams) print("\n");
  for (std::size_t i = 0; i < written.size() && !streams; ++i) print_written(a, texts[i], written[i], i == 0);
  return 0;
}

void add_prompt_options(CLI::App& command, Arguments& a) {
  CLI::Option* prompt = command.add_option("--prompt", a.prompt, "Text to go on from (default: a new line)");
  command
      .add_option("--prompts", a.prompts,
                  "File with a prompt a line; .jsonl: each a JSON string, or an object with a `prompt`")
      ->type_name("FILE")
      ->excludes(prompt);
  CLI::Option* chat =
      command.add_flag("--chat", a.chat, "A prompt is what a user says, written by the model's chat template");
  command.add_option("--system", a.system, "With --chat: the system's message before it")->needs(chat)->type_name("TEXT");
}

void add_output_options(CLI::App& command, Arguments& a) {
  CLI::Option* ids = command.add_flag(
      "--ids", a.ids, "Print the ids of the new tokens, a line for each prompt with spaces between, instead of text");
  command.add_flag("--json", a.as_json, "Print a JSON object for each prompt: prompt, text, ids")->excludes(ids);
  command.add_flag("--no-cache", a.anew, "Read the whole text anew for every token: slow, for comparisons");
}

}  // namespace

void add_generate_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("generate", "Text from a model; under mpirun, ranks share the prompts");
  auto a = std::make_shared<Arguments>();
  add_model_arguments(*command, a->model);
  add_prompt_options(*command, *a);
  add_integer_option(*command, "--tokens", a->tokens, {.min = 1, .max = 1 << 30}, "Tokens to make, at most");
  add_sampling_options(*command, a->sampling);
  add_stop_option(*command, a->stops);
  add_integer_option(*command, "--seed", a->seed, kSeeds, "The same seed gives the same text");
  add_integer_option(*command, "--batch", a->batch, {.min = 1, .max = 1 << 20}, "Prompts that are continued together");
  add_output_options(*command, *a);
  command->footer(
      "Examples:\n"
      "  muonp generate runs/quickstart-p-1-2 --prompt 'In the beginning' --tokens 100\n"
      "  muonp generate models/SmolLM2-135M-Instruct --chat --prompt 'What is the capital of France?' --temperature 0\n"
      "  mpirun -np 2 muonp generate models/SmolLM2-135M --prompts prompts.txt --stop $'\\n' --json\n"
      "  muonp generate models/SmolLM2-135M --prompt 'Once' --temperature 0 --tokens 64 --ids");
  command->callback([a, &context] {
    context.session = session_settings(a->model, "generate");
    context.run = [a](Session& session) { return run(session, *a); };
  });
}

}  // namespace muonp::launch
