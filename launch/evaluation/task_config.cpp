#include "launch/evaluation/task_config.h"

#include <array>
#include <filesystem>

#include "core/base/error.h"

namespace muonp::launch {

using core::Fields;

namespace {

constexpr std::array<std::string_view, 3> kKinds = {"text", "choices", "exact"};

void describe_text(TaskConfig& c, Fields& f) {
  f.integer("window", c.window, {.min = 0, .max = 1 << 20},
            "tokens that the model sees at once; 0: its context, at most 1024 [tokens]");
  f.integer("stride", c.stride, {.min = 0, .max = 1 << 20},
            "tokens between windows, less than a window; 0: half of it [tokens]");
}

void describe_choices(TaskConfig& c, Fields& f) {
  f.text("prompt", c.prompt, "what is given, a text with {fields} of the line; empty: {question}");
  f.text("choice", c.choice, "what follows it, a text with {choice}");
}

void describe_exact(TaskConfig& c, Fields& f) {
  f.text("prompt", c.prompt, "what is given, a text with {fields} of the line; empty: data.prompt");
  f.text("completion", c.completion, "the answer to compare with, likewise; empty: data.completion");
  f.text("messages", c.messages, "name of the field that is a conversation; empty: data.messages");
  f.text("pattern", c.pattern,
         "regular expression for what counts of an answer: its last match, or group 1 of it; empty: all");
  f.integer("tokens", c.tokens, {.min = 1, .max = 1 << 20}, "of an answer, at most [tokens]");
  f.real("temperature", c.temperature, {.min = 0, .max = 1e6}, "0 takes the likeliest token every time");
  f.integer("top_k", c.top_k, {.min = 0}, "choose among the k likeliest tokens; 0 for all");
  f.real("top_p", c.top_p, {.min = 1e-6, .max = 1}, "choose among the fewest likeliest tokens of at least this probability");
  f.real("repetition_penalty", c.repetition_penalty, {.min = 1e-6, .max = 1e6},
         "tokens that the text has are made less likely by it; 1 for no change");
  f.text_list("stop", c.stop, "strings that end an answer");
  f.integer("samples", c.samples, {.min = 1, .max = 1 << 20}, "answers to each prompt");
  f.integer("pass", c.pass, {.min = 1, .max = 1 << 20}, "k of pass@k, at most samples");
  f.integer("seed", c.seed, {.min = 0}, "of the answers");
}

void describe_kind(TaskConfig& c, Fields& f) {
  if (c.kind == "text") describe_text(c, f);
  if (c.kind == "choices") describe_choices(c, f);
  if (c.kind == "exact") describe_exact(c, f);
}

}  // namespace

void TaskConfig::describe(Fields& f) {
  f.text("name", name, "in tables and metrics; empty: the file's, without its ending");
  f.choice("kind", kind, kKinds,
           "text: perplexity; choices: multiple choice; exact: answers that are compared (docs/evaluation.md)");
  f.text("file", file, "the text, or the JSONL file", core::Presence::required);
  f.integer("batch", batch, {.min = 1, .max = 1 << 20}, "texts in a forward pass");
  f.integer("limit", limit, {.min = 0}, "windows or lines to take, from the first; 0: all");
  describe_kind(*this, f);
  for (const std::string_view other : kKinds) {
    if (other == kind) continue;
    f.others_if(fmt::format("kind: {}", other), [other](Fields& inner) {
      TaskConfig defaults;
      defaults.kind = other;
      describe_kind(defaults, inner);
    });
  }
}

std::string TaskConfig::title() const { return name.empty() ? std::filesystem::path(file).stem().string() : name; }

void TaskConfig::validate(const std::string& where) const {
  if (pass > samples) core::fail("{}: pass@{} needs at least {} samples; there are {}", where, pass, pass, samples);
  if (samples > 1 && temperature == 0)
    core::fail("{}: {} samples at temperature 0 are {} times the same answer; give a temperature above 0", where, samples,
               samples);
}

void TrainingTask::describe(Fields& f) {
  task.describe(f);
  f.integer("every", every, {.min = 0}, "steps between evaluations; 0: after the last step only [steps]");
  f.boolean("at_start", at_start, "evaluate before the first step too");
}

}  // namespace muonp::launch
