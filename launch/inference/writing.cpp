#include "launch/inference/writing.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/index.h"
#include "launch/inference/text_stream.h"

namespace muonp::launch {

void require_room(const Subject& subject, std::size_t tokens, const std::string& where) {
  if (tokens == 0) core::fail("{}: the prompt is empty; a text cannot be continued from nothing", where);
  if (core::at(subject.model.context()) <= tokens)
    core::fail("{}: the prompt has {} tokens; the model's context of {} leaves no place for an answer", where, tokens,
               subject.model.context());
}

std::vector<WrittenText> write_texts(const Subject& subject, Passes& passes, std::span<const models::Prompt> prompts,
                                     const WritingOptions& options, const OnText& on_text) {
  std::vector<TextStream> streams;
  for (const models::Prompt& prompt : prompts) {
    require_room(subject, prompt.tokens.size(), "a text");
    streams.emplace_back(*subject.tokenizer, options.stops);
  }
  std::vector<std::size_t> lengths;
  for (const models::Prompt& prompt : prompts) lengths.push_back(prompt.tokens.size());
  const models::GenerationOptions generation{.tokens = options.tokens,
                                             .sampling = options.sampling,
                                             .stop_tokens = subject.stop_tokens,
                                             .cache = options.cache,
                                             .compute = subject.compute};
  const auto on_token = [&](std::size_t i, std::int32_t token) {
    const bool ends = std::ranges::find(subject.stop_tokens, token) != subject.stop_tokens.end();
    const std::string part = ends ? "" : streams[i].add(token);
    const bool wanted = !on_text || part.empty() || on_text(i, part);
    const bool full = options.within_context && ++lengths[i] >= core::at(subject.model.context());
    return wanted && !streams[i].stopped() && !full;
  };
  const auto ids = models::generate(subject.device, subject.model, prompts, generation, on_token, passes.opener());
  std::vector<WrittenText> written;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    if (const std::string rest = streams[i].rest(); on_text && !rest.empty()) on_text(i, rest);
    written.push_back({ids[i], streams[i].text()});
  }
  return written;
}

}  // namespace muonp::launch
