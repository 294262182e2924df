#include "core/data/tokenizer/normalizer.h"

#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/data/tokenizer/json_fields.h"

namespace muonp::core {
namespace {

using Json = nlohmann::json;

constexpr std::array<const char*, 4> kForms = {"NFC", "NFD", "NFKC", "NFKD"};

// No character below U+0300 and no ideograph or syllable of these blocks is changed by NFC or joins what stands before it.
bool is_surely_nfc(std::string_view text) {
  while (!text.empty()) {
    if (static_cast<unsigned char>(text[0]) < 0xcc) {
      text.remove_prefix(static_cast<unsigned char>(text[0]) < 0x80 ? 1 : 2);
      continue;
    }
    const CodePoint c = first_code_point(text);
    const bool inert = (c.value >= 0x4e00 && c.value <= 0x9fff) || (c.value >= 0xac00 && c.value <= 0xd7a3) ||
                       (c.value >= 0x2010 && c.value <= 0x2027) || (c.value >= 0x3001 && c.value <= 0x3098);
    if (!inert) return false;
    text.remove_prefix(c.bytes);
  }
  return true;
}

bool is_ascii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

}  // namespace

Normalizer::Normalizer(const Json& description, const std::string& where) { read(description, where); }

void Normalizer::read(const Json& description, const std::string& where) {
  const std::string type = type_of(description, where);
  if (type.empty()) return;
  if (type == "Sequence") {
    std::size_t i = 0;
    for (const Json& part : list_field(description, "normalizers", where))
      read(part, fmt::format("{}.normalizers[{}]", where, i++));
  } else if (const auto form = std::ranges::find(kForms, type); form != kForms.end()) {
    steps_.emplace_back(static_cast<NormalForm>(form - kForms.begin()));
  } else if (type == "Lowercase") {
    steps_.emplace_back(LowerCase{});
  } else if (type == "Prepend") {
    steps_.emplace_back(Prepend{text_field(description, "prepend", where)});
  } else if (type == "Replace") {
    steps_.emplace_back(Replace{pattern_field(description, where), text_field(description, "content", where)});
  } else {
    fail("{}: the normalizer {} is not supported; supported are NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Sequence",
         where, type);
  }
}

bool Normalizer::run(const Step& step, std::string_view text, Place place, std::string& result, RegexWork& work) {
  if (const auto* form = std::get_if<NormalForm>(&step)) {
    if (is_ascii(text) || (*form == NormalForm::nfc && is_surely_nfc(text))) return false;
    result = normal_form(text, *form);
  } else if (const auto* prepend = std::get_if<Prepend>(&step)) {
    if (text.empty() || place == Place::continued) return false;
    result = prepend->text;
    result += text;
  } else if (const auto* replace = std::get_if<Replace>(&step)) {
    result.clear();
    std::size_t done = 0;
    for (TextRange found = replace->pattern.find(text, 0, work); found.begin < found.end;
         found = replace->pattern.find(text, done, work)) {
      result.append(text, done, found.begin - done).append(replace->content);
      done = found.end;
    }
    if (done == 0) return false;
    result += text.substr(done);
  } else {
    result = lower_case(text);
  }
  return true;
}

std::string_view Normalizer::apply(std::string_view text, Place place, std::string& buffer, RegexWork& work) const {
  std::string result;
  for (const Step& step : steps_) {
    if (!run(step, text, place, result, work)) continue;
    std::swap(buffer, result);
    text = buffer;
  }
  return text;
}

std::string Normalizer::prefix() const {
  std::string prefix;
  for (const Step& step : steps_)
    if (const auto* prepend = std::get_if<Prepend>(&step)) prefix = prepend->text + prefix;
  return prefix;
}

std::vector<std::string> Normalizer::changes() const {
  std::vector<std::string> all;
  for (const Step& step : steps_) {
    if (const auto* form = std::get_if<NormalForm>(&step)) all.push_back(fmt::format("Unicode {}", kForms[at(*form)]));
    if (std::holds_alternative<LowerCase>(step)) all.emplace_back("lower case");
    if (const auto* replace = std::get_if<Replace>(&step))
      all.push_back(fmt::format("'{}' becomes '{}'", replace->pattern.pattern(), replace->content));
  }
  return all;
}

}  // namespace muonp::core
