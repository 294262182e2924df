#include "core/data/finetuning/field_template.h"

#include <algorithm>

#include "core/base/error.h"

namespace muonp::core {

FieldTemplate::FieldTemplate(std::string_view source, const std::string& key) {
  for (std::string_view rest = source; !rest.empty();) {
    const std::size_t brace = std::min(rest.find_first_of("{}"), rest.size());
    add(false, rest.substr(0, brace));
    rest.remove_prefix(brace);
    if (rest.empty()) break;
    if (rest.starts_with("{{") || rest.starts_with("}}")) {
      add(false, rest.substr(0, 1));
      rest.remove_prefix(2);
      continue;
    }
    const std::size_t end = rest.find_first_of("{}", 1);
    if (rest[0] == '}' || end == std::string_view::npos || rest[end] == '{' || end == 1)
      fail("{}: '{}' has a brace that encloses no field; a field is {{name}}, and a brace of the text {{{{ or }}}}", key,
           source);
    add(true, rest.substr(1, end - 1));
    rest.remove_prefix(end + 1);
  }
}

void FieldTemplate::add(bool is_field, std::string_view text) {
  if (!text.empty()) pieces_.push_back({is_field, std::string(text)});
}

std::vector<std::string> FieldTemplate::fields() const {
  std::vector<std::string> names;
  for (const Piece& piece : pieces_)
    if (piece.is_field) names.push_back(piece.text);
  return names;
}

std::string FieldTemplate::fill(const std::function<std::string(const std::string&)>& value_of) const {
  std::string text;
  for (const Piece& piece : pieces_) text += piece.is_field ? value_of(piece.text) : piece.text;
  return text;
}

}  // namespace muonp::core
