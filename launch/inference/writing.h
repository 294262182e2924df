// Texts that a model writes behind prompts.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/config/config.h"
#include "launch/inference/passes.h"

namespace muonp::launch {

struct WritingOptions {
  std::int64_t tokens = 128;  // of a text, at most
  models::SamplingOptions sampling{.temperature = 0};
  std::vector<std::string> stops = {};  // strings that end a text, and are not in it
  bool within_context =
      true;  // a text ends where the model's context is full; false: it goes on, with what fits of its end in view
  bool cache = true;
};

struct WrittenText {
  std::vector<std::int32_t> ids;  // with the token that ended it
  std::string text;               // without special tokens, stop token and stop string
};

// Called with what may be shown of prompt i's text, as it comes, and with the rest at its end; false ends the text. May be
// empty.
using OnText = std::function<bool(std::size_t i, const std::string& part)>;

// All prompts at once. Where only this rank writes, `passes` is for the others. Error: a prompt is empty or fills the
// context.
std::vector<WrittenText> write_texts(const Subject& subject, Passes& passes, std::span<const models::Prompt> prompts,
                                     const WritingOptions& options, const OnText& on_text = {});

// Error names `where` if the prompt has no tokens, or leaves no place for one in the context.
void require_room(const Subject& subject, std::size_t tokens, const std::string& where);

}  // namespace muonp::launch
