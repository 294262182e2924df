// Conversations as the text that a model was trained on: the chat template of a Hugging Face folder, in the subset of Jinja
// that the templates of the supported families are written in (docs/data.md lists it).
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace muonp::core {

struct ChatMessage {
  std::string role;  // system, user, assistant, as the template knows them
  std::string content;
};

// Bytes [begin, end) of a rendered text.
struct TextSpan {
  std::size_t begin = 0, end = 0;
};

struct RenderedChat {
  std::string text;
  std::vector<TextSpan> generations;  // what stood between {% generation %} and {% endgeneration %}, in order
};

class ChatTemplate {
 public:
  // From chat_template.jinja, or `chat_template` of tokenizer_config.json (a string, or a list of named ones, of which
  // "default" is taken); bos_token, eos_token and the other special tokens from tokenizer_config.json and
  // special_tokens_map.json. Error: there is no template, or it uses what is not supported, which is quoted with its line.
  static ChatTemplate open(const std::string& folder);
  static bool exists(const std::string& folder);
  // `name` is for messages; `variables` is a JSON object of what the template sees beside its arguments
  // ({"bos_token": "<s>"}), empty for none.
  static ChatTemplate parse(std::string_view source, const std::string& name, std::string_view variables = {});

  // The text for `messages`, with the beginning of an answer if `add_generation_prompt`. The same string as transformers'
  // apply_chat_template(tokenize=False) gives. It holds its special tokens itself: encode it with Specials::parse and put
  // nothing before it. Error: the template raises one (a role it does not know), with its words and line.
  std::string render(std::span<const ChatMessage> messages, bool add_generation_prompt) const;
  RenderedChat render_marked(std::span<const ChatMessage> messages, bool add_generation_prompt) const;
  // The same of messages with whatever fields they have, as JSON text: an array of objects. `extra`: an object of further
  // variables ({"tools": [...], "enable_thinking": false}), empty for none.
  RenderedChat render_json(std::string_view messages, bool add_generation_prompt, std::string_view extra = {}) const;
  // Whether the template marks the assistant's words by {% generation %}.
  bool marks_generations() const;
  const std::string& source() const;

 private:
  struct State;
  explicit ChatTemplate(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

}  // namespace muonp::core
