// Text made of an example's fields: "Question: {question}\nAnswer: ".
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace muonp::core {

class FieldTemplate {
 public:
  // {name} stands for a field; {{ and }} are braces. `key` begins messages ("data.prompt"). Error: a brace that is not
  // closed or opened, a field without a name.
  FieldTemplate(std::string_view source, const std::string& key);

  bool empty() const { return pieces_.empty(); }
  std::vector<std::string> fields() const;  // by name, in order
  std::string fill(const std::function<std::string(const std::string& field)>& value_of) const;

 private:
  struct Piece {
    bool is_field;
    std::string text;
  };
  void add(bool is_field, std::string_view text);
  std::vector<Piece> pieces_;
};

}  // namespace muonp::core
