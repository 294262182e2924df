// One line of a JSONL file as an example to train on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/data/chat/chat_template.h"
#include "core/data/config.h"
#include "core/data/finetuning/field_template.h"

namespace muonp::core {

enum class ExampleKind : std::uint8_t { text, completion, messages };
inline constexpr int kExampleKinds = 3;

struct Example {
  ExampleKind kind = ExampleKind::text;
  std::string prompt = {};      // of a completion
  std::string completion = {};  // or the text
  std::vector<ChatMessage> messages = {};
  bool tools = false;  // it has tools or tool calls, which are ignored
};

// What is wrong with one line, without file and number; data.skip_bad leaves such lines out.
class BadExample : public Error {
 public:
  using Error::Error;
};

// Which fields of a line are what, by data.text, data.prompt, data.completion and data.messages.
class ExampleFormat {
 public:
  explicit ExampleFormat(const DataConfig& config);  // Error: a template is broken; names its key

  // BadExample: no JSON object, the fields of no kind or of several, values of other types, an empty completion or text, an
  // empty answer of an assistant, no answer.
  Example parse(std::string_view line) const;
  // "prompt and completion", as messages call it: the fields of that kind.
  std::string fields_of(ExampleKind kind) const;

 private:
  FieldTemplate text_, prompt_, completion_;
  std::string messages_;
};

}  // namespace muonp::core
