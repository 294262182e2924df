#include "core/data/config.h"

#include <array>

namespace muonp::core {

void MixedFile::describe(Fields& f) {
  f.text("file", file, "JSONL file or folder of JSONL files", Presence::required);
  f.real("weight", weight, {.min = 1e-6, .max = 1e6},
         "times that each of its examples is seen where one of data.train is seen once");
}

namespace {

void describe_examples(DataConfig& c, Fields& f) {
  static constexpr std::array<std::string_view, 2> losses = {"completion", "all"};
  static constexpr std::array<std::string_view, 3> rules = {"truncate", "drop", "error"};
  f.text("text", c.text, "JSONL: the field that is a text to learn, or a text with {fields}; empty: none is");
  f.text("prompt", c.prompt, "JSONL: what is given, a text with {fields} of the line");
  f.text("completion", c.completion, "JSONL: what is learned to follow it, likewise");
  f.text("messages", c.messages, "JSONL: name of the field that is a conversation; empty: none is");
  f.text("chat_template", c.chat_template,
         "JSONL: folder or Jinja file with the chat template; empty: the tokenizer's folder");
  f.choice("loss", c.loss, losses, "JSONL: what is learned, completions and the assistant's answers or all tokens");
  f.choice("too_long", c.too_long, rules, "JSONL: what becomes of an example of more than sequence + 1 tokens");
  f.boolean("packing", c.packing,
            "JSONL: several examples in one sequence, which do not see each other; false: one, padded");
  f.boolean("skip_bad", c.skip_bad, "JSONL: leave lines out that are no valid example; false: they are an error");
  f.section_list(
      "mix", c.mix.size(), [&c](std::size_t n) { c.mix.resize(n); },
      [&c](std::size_t i, Fields& entry) { c.mix[i].describe(entry); }, "JSONL: further files, mixed with those of train");
}

}  // namespace

void DataConfig::describe(Fields& f) {
  f.text("train", train, "text, token file (.bin), JSONL file of examples (.jsonl), or a folder of one kind",
         Presence::required);
  f.text("validation", validation, "the same for validation; empty: the last part of train");
  f.real("validation_fraction", validation_fraction, {.min = 0, .max = 0.9},
         "part of train kept for validation where `validation` is empty; 0: no validation");
  f.text("tokenizer", tokenizer, "byte, a model made by `muonp tokenize`, a tokenizer.json, or a folder that has one");
  f.text("cache", cache, "folder for token files made from text; empty: the run's folder");
  f.integer("sequence", sequence, {.min = 1, .max = 1 << 20}, "length of a training sequence [tokens]");
  f.integer("batch", batch, {.min = 1, .max = 1 << 24}, "sequences per step, over all ranks and passes");
  f.integer("micro_batch", micro_batch, {.min = 0, .max = 1 << 24}, "sequences per rank and pass; 0: all of a rank's");
  f.boolean("shuffle", shuffle, "a new order every epoch; false: the data's order");
  describe_examples(*this, f);
}

}  // namespace muonp::core
