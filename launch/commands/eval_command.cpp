// muonp eval: how good a model is, on texts and tasks.
#include <CLI/CLI.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/units.h"
#include "core/files/files.h"
#include "core/files/npy.h"
#include "launch/commands/model_arguments.h"
#include "launch/evaluation/task.h"
#include "launch/evaluation/validation.h"
#include "launch/program/long_work.h"
#include "launch/program/signals.h"
#include "launch/report/table.h"
#include "launch/train/run_reading.h"

namespace muonp::launch {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  ModelArguments model;
  std::string data, logits, answers;
  std::vector<std::string> texts, choices, exact;
  TaskConfig task;  // what all tasks have of it
  models::SamplingOptions sampling{.temperature = 0};
  std::int64_t batches = 0;
  bool json = false, skip_bad = false;

  bool has_tasks() const { return !texts.empty() || !choices.empty() || !exact.empty(); }
};

// What was evaluated, and the result.
struct Result {
  std::string task, kind;
  TaskNumbers numbers;
};

std::vector<TaskConfig> tasks_of(const Arguments& a) {
  std::vector<TaskConfig> tasks;
  const auto add = [&](const std::vector<std::string>& files, const std::string& kind) {
    for (const std::string& file : files) {
      tasks.push_back(a.task);
      tasks.back().kind = kind;
      tasks.back().file = file;
      tasks.back().temperature = a.sampling.temperature;
      tasks.back().top_k = a.sampling.top_k;
      tasks.back().top_p = a.sampling.top_p;
      tasks.back().repetition_penalty = a.sampling.repetition_penalty;
    }
  };
  add(a.texts, "text");
  add(a.choices, "choices");
  add(a.exact, "exact");
  return tasks;
}

core::Dataset read_data(const core::DataConfig& data, const Arguments& a, const TrainedModel& trained, Session& session) {
  core::Dataset read;
  run_on_all_until_stopped(session.communicator(), [&](const core::Poll& poll) {
    read = read_dataset(data, a.model.source.path, trained.config.model.vocabulary(), poll);
  });
  return read;
}

void require_data_of_run(const Arguments& a, const TrainedModel& trained, const core::DataConfig& data,
                         const core::Dataset& dataset, Session& session) {
  const std::string& run = a.model.source.path;
  constexpr std::string_view kCompared[] = {"data.train", "data.validation*"};
  for (const std::string& line : require_same_values(run, trained.identity, data_identity(data, dataset), kCompared,
                                                     "--data evaluates on data that the run was not trained with"))
    if (session.rank() == 0) session.log().warn("{}", line);
  if (!dataset.has_validation()) core::fail("{} was trained without validation data; name some with --data", run);
}

// The validation part of the run's own data, or all of other data.
std::unique_ptr<core::ValidationBatches> data_of(Session& session, const Arguments& a, const TrainedModel& trained) {
  core::DataConfig data = trained.config.data;
  if (!a.data.empty()) {
    data.train = data.validation = a.data;
    data.mix.clear();
  }
  data.skip_bad = data.skip_bad || a.skip_bad;
  const core::Dataset dataset = read_data(data, a, trained, session);
  std::unique_ptr<core::ValidationBatches> batches;
  dist::run_on_all(session.communicator(), [&] {
    if (a.data.empty()) require_data_of_run(a, trained, data, dataset, session);
    batches = core::make_validation_batches(dataset, data);
  });
  return batches;
}

// A bar on standard error, on rank 0.
class Bar {
 public:
  Bar(std::string what, Session& session) : what_(std::move(what)), session_(session) {}
  OnItems on_items() {
    return [this](std::int64_t done, std::int64_t total) {
      if (session_.rank() != 0) return;
      if (!bar_) bar_ = std::make_unique<Progress>(what_, total, 0, progress_options(session_, stderr));
      bar_->update(done, "");
    };
  }

 private:
  std::string what_;
  Session& session_;
  std::unique_ptr<Progress> bar_;
};

Result evaluate_data(Session& session, const Arguments& a, const TrainedModel& trained, const Subject& subject) {
  const std::unique_ptr<core::ValidationBatches> data = data_of(session, a, trained);
  const std::int64_t batch = trained.config.data.batch;
  std::int64_t sequences = data->sequences();
  if (a.batches > 0) sequences = std::min(sequences, a.batches * batch);
  Bar bar("validation", session);
  return {a.data.empty() ? "validation" : a.data, "data",
          evaluate_sequences(subject, *data, sequences, batch, bar.on_items())};
}

void write_answers(const std::string& file, const std::vector<TaskAnswer>& answers) {
  std::string lines;
  for (const TaskAnswer& answer : answers)
    lines += Json{{"line", answer.line},   {"sample", answer.sample},       {"right", answer.right},
                  {"found", answer.found}, {"reference", answer.reference}, {"answer", answer.answer}}
                 .dump(-1, ' ', false, Json::error_handler_t::replace) +
             "\n";
  core::write_file(file, lines);
}

void write_first_logits(const TaskConfig& task, const Subject& subject, const std::string& file) {
  const TextWindows windows(task, subject);
  std::vector<float> values = first_logits(windows, subject);
  const auto tokens = static_cast<std::int64_t>(windows.first().size());
  core::write_npy(file, {{tokens, subject.model.vocabulary()}, std::move(values)});
}

std::vector<Result> evaluate_tasks(Session& session, const Arguments& a, const TrainedModel& trained,
                                   const Subject& subject) {
  const std::vector<TaskConfig> configs = tasks_of(a);
  std::vector<std::unique_ptr<Task>> tasks;
  core::NamedValues fingerprints;
  dist::run_on_all(session.communicator(), [&] {
    for (const TaskConfig& config : configs) {
      tasks.push_back(open_task(config, trained.config.data, subject));
      fingerprints.push_back({"what is read of " + config.file, fmt::format("{:016x}", tasks.back()->fingerprint())});
    }
  });
  dist::require_same(session.communicator(), fingerprints);
  dist::run_on_all(session.communicator(), [&] {
    if (!a.logits.empty() && session.rank() == 0) write_first_logits(configs.front(), subject, a.logits);
  });
  std::vector<Result> results;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    Bar bar(configs[i].title(), session);
    std::vector<TaskAnswer> answers;
    const bool keeps = !a.answers.empty() && configs[i].kind == "exact";
    results.push_back(
        {configs[i].title(), configs[i].kind, tasks[i]->run(subject, bar.on_items(), keeps ? &answers : nullptr)});
    if (keeps)
      dist::run_on_all(session.communicator(), [&] {
        if (session.rank() == 0) write_answers(a.answers, answers);
      });
  }
  return results;
}

Json as_json(const Result& result) {
  Json object{{"task", result.task}, {"kind", result.kind}};
  for (const TaskNumber& number : result.numbers)
    if (number.count)
      object[number.name] = static_cast<std::int64_t>(number.value);
    else
      object[number.name] = number.value;
  return object;
}

// One result stands in the object itself, several in its list `tasks`.
std::string json_report(const Arguments& a, std::int64_t step, const std::vector<Result>& results) {
  Json object{{"run", a.model.source.path}, {"step", step}};
  if (results.size() == 1) {
    object.update(as_json(results.front()));
  } else {
    object["tasks"] = Json::array();
    for (const Result& result : results) object["tasks"].push_back(as_json(result));
  }
  return object.dump(2, ' ', false, Json::error_handler_t::replace);
}

std::string table_report(const Arguments& a, std::int64_t step, const std::vector<Result>& results) {
  Table table({"task", "kind", "measure", "value"}, {Align::left, Align::left, Align::left, Align::right});
  table.caption(step > 0 ? fmt::format("{}, step {}", a.model.source.path, step) : a.model.source.path);
  for (const Result& result : results) {
    if (table.rows() > 0) table.rule();
    for (std::size_t i = 0; i < result.numbers.size(); ++i)
      table.add({i == 0 ? result.task : "", i == 0 ? result.kind : "", result.numbers[i].name, text_of(result.numbers[i])});
  }
  return table.render();
}

int run(Session& session, const Arguments& a) {
  const StopSignals signals;
  const TrainedModel trained = open_trained_model(session, a.model.source);
  if (!trained.is_run && !a.has_tasks() && a.data.empty())
    throw dist::AgreedError(
        fmt::format("{} is a Hugging Face folder and says no text to evaluate on; --text, --choices, "
                    "--exact or --data name one",
                    a.model.source.path));
  const Subject subject = subject_of(session, trained);
  std::vector<Result> results;
  if (a.has_tasks()) results = evaluate_tasks(session, a, trained, subject);
  if (!a.has_tasks() || !a.data.empty()) results.push_back(evaluate_data(session, a, trained, subject));
  session.log().info("{}", a.json ? json_report(a, trained.step, results) : table_report(a, trained.step, results));
  return 0;
}

CLI::Option* add_files(CLI::App& command, const std::string& name, std::vector<std::string>& files,
                       const std::string& meaning) {
  return command.add_option(name, files, meaning + " (repeatable)")
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false)
      ->type_name("FILE");
}

void add_text_options(CLI::App& command, Arguments& a) {
  CLI::Option* text = add_files(command, "--text", a.texts, "Perplexity of a text, by a sliding window");
  add_integer_option(command, "--window", a.task.window, {.min = 0, .max = 1 << 20},
                     "Tokens seen at once; 0: the model's context, at most 1024")
      ->needs(text);
  add_integer_option(command, "--stride", a.task.stride, {.min = 0, .max = 1 << 20},
                     "Tokens between windows; 0: half of one")
      ->needs(text);
  command.add_option("--logits", a.logits, "Write the float32 logits [tokens, vocabulary] of the first window")
      ->needs(text)
      ->type_name("OUT.npy");
}

void add_choice_options(CLI::App& command, Arguments& a) {
  CLI::Option* choices =
      add_files(command, "--choices", a.choices, "Multiple choice: JSONL with question, choices and answer");
  command.add_option("--choice", a.task.choice, "What follows the prompt")->capture_default_str()->needs(choices);
}

void add_exact_options(CLI::App& command, Arguments& a) {
  CLI::Option* exact =
      add_files(command, "--exact", a.exact, "Answers compared: JSONL with prompt and completion, or messages");
  const auto text = [&](const char* name, std::string& value, const char* meaning, const char* type) {
    command.add_option(name, value, meaning)->needs(exact)->type_name(type);
  };
  text("--completion", a.task.completion, "The reference, a text with {fields} (default: data.completion)", "TEXT");
  text("--messages", a.task.messages, "Name of the field that is a conversation (default: data.messages)", "NAME");
  text("--pattern", a.task.pattern, "What counts of an answer: the last match, or group 1 of it (default: all)", "REGEX");
  text("--answers", a.answers, "Write the answers, a JSON object a line", "OUT.jsonl");
  const auto count = [&](const char* name, std::int64_t& value, core::IntegerRange valid, const char* meaning) {
    add_integer_option(command, name, value, valid, meaning)->needs(exact);
  };
  count("--tokens", a.task.tokens, {.min = 1, .max = 1 << 20}, "Of an answer, at most");
  count("--samples", a.task.samples, {.min = 1, .max = 1 << 20}, "Answers to each prompt");
  count("--pass", a.task.pass, {.min = 1, .max = 1 << 20}, "K of pass@K, at most --samples");
  count("--seed", a.task.seed, kSeeds, "Of the answers");
  for (CLI::Option* option : add_sampling_options(command, a.sampling)) option->needs(exact);
  add_stop_option(command, a.task.stop)->needs(exact);
}

void add_data_options(CLI::App& command, Arguments& a) {
  command.add_option("--data", a.data, "Text, token file or JSONL file to evaluate on instead of the run's validation data");
  command.add_flag("--skip-bad", a.skip_bad, "Leave lines of JSONL out that are no valid example (data.skip_bad)");
  add_integer_option(command, "--batches", a.batches, {.min = 0, .max = 1 << 30},
                     "Batches of the run's data.batch sequences; 0 for all");
}

}  // namespace

void add_eval_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand(
      "eval",
      "How good a model is: loss of the run's validation data, texts, multiple choice, answers; ranks share the work");
  auto a = std::make_shared<Arguments>();
  add_model_arguments(*command, a->model);
  add_data_options(*command, *a);
  add_text_options(*command, *a);
  add_choice_options(*command, *a);
  add_exact_options(*command, *a);
  command->add_option("--prompt", a->task.prompt,
                      "Of --choices and --exact: what is given, a text with {fields} (default: {question}; data.prompt)");
  add_integer_option(*command, "--limit", a->task.limit, {.min = 0},
                     "Windows or lines of each file, from the first; 0: all");
  add_integer_option(*command, "--batch", a->task.batch, {.min = 1, .max = 1 << 20}, "Texts in a forward pass");
  command->add_flag("--json", a->json, "Print a JSON object");
  command->footer(
      "Examples:\n"
      "  muonp eval runs/quickstart-p-1-2\n"
      "  muonp eval runs/quickstart-p-1-2 --checkpoint 200 --data other.txt --json\n"
      "  muonp eval models/SmolLM2-135M --text a.txt --text b.txt --stride 256\n"
      "  mpirun -np 2 muonp eval runs/gsm --exact test.jsonl --pattern '-?[0-9]+' --samples 10 --pass 8 --temperature 0.8\n"
      "  muonp eval models/SmolLM2-135M --choices arc.jsonl --prompt $'Question: {question}\\nAnswer:'");
  command->callback([a, &context] {
    context.session = session_settings(a->model, "eval");
    context.run = [a](Session& session) { return run(session, *a); };
  });
}

}  // namespace muonp::launch
