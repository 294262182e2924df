#include "launch/inference/text_stream.h"

#include <algorithm>

#include "core/base/error.h"

namespace muonp::launch {

namespace {

// Bytes at the end of `text` that begin a character and do not complete it. What is no UTF-8 at all is not waited for.
std::size_t unfinished_character(std::string_view text) {
  const std::size_t most = std::min<std::size_t>(3, text.size());
  for (std::size_t back = 1; back <= most; ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;
    const std::size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

// The longest end of `text` with which `stop` begins.
std::size_t begun(std::string_view text, std::string_view stop) {
  for (std::size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length)
    if (text.ends_with(stop.substr(0, length))) return length;
  return 0;
}

}  // namespace

std::string TextStream::add(std::int32_t token) {
  if (stopped_ || token < 0 || token >= tokenizer_.vocabulary() || tokenizer_.is_special(token)) return "";
  std::size_t longest = 0;
  for (const std::string& stop : stops_) longest = std::max(longest, stop.size());
  const std::size_t before = text_.size();
  text_ += tokenizer_.piece(token);
  stop_at_first(before - std::min(before, longest));
  return show(certain());
}

void TextStream::stop_at_first(std::size_t from) {
  std::size_t first = std::string::npos;
  for (const std::string& stop : stops_) first = std::min(first, text_.find(stop, from));
  if (first == std::string::npos) return;
  text_.resize(first);
  stopped_ = true;
}

std::size_t TextStream::certain() const {
  if (stopped_) return text_.size();
  std::size_t held = unfinished_character(text_);
  for (const std::string& stop : stops_) held = std::max(held, begun(text_, stop));
  return text_.size() - held;
}

std::string TextStream::show(std::size_t end) {
  if (end <= shown_) return "";
  std::string part = text_.substr(shown_, end - shown_);
  shown_ = end;
  return part;
}

std::string TextStream::rest() { return show(text_.size()); }

void check_stops(const std::vector<std::string>& stops) {
  if (std::ranges::any_of(stops, &std::string::empty)) core::fail("a stop string is empty; every text would end at once");
}

}  // namespace muonp::launch
