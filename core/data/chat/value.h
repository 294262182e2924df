// Values of the template language, which are Python's: what they are when printed, compared and asked for their length.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace muonp::core::jinja {

class Value;
struct Undefined {
  std::string name;  // what was looked for, for messages
};
struct None {};
using List = std::vector<Value>;
using NamedValues = std::vector<std::pair<std::string, Value>>;  // in the order of insertion
struct Dictionary {
  NamedValues members;
  bool is_namespace = false;  // the only kind that templates may change
  const Value* find(std::string_view name) const;
};
struct Arguments {
  List positional;
  NamedValues named;
};
using Function = std::function<Value(const Arguments&)>;

class Value {
 public:
  using Content = std::variant<Undefined, None, bool, std::int64_t, double, std::string, std::shared_ptr<List>,
                               std::shared_ptr<Dictionary>, std::shared_ptr<Function>>;

  Value() : content_(None{}) {}
  template <class T>
  requires(!std::is_same_v<std::remove_cvref_t<T>, Value> &&
           std::is_constructible_v<Content, T&&>) explicit Value(T&& content)
      : content_(std::forward<T>(content)) {}
  explicit Value(List list) : content_(std::make_shared<List>(std::move(list))) {}
  explicit Value(Dictionary dictionary) : content_(std::make_shared<Dictionary>(std::move(dictionary))) {}
  explicit Value(Function function) : content_(std::make_shared<Function>(std::move(function))) {}
  static Value undefined(std::string name) { return Value(Undefined{std::move(name)}); }
  static Value from_json(const nlohmann::ordered_json& json);

  template <class T>
  bool is() const {
    return std::holds_alternative<T>(content_);
  }
  template <class T>
  const T& as() const {
    return std::get<T>(content_);
  }
  bool is_undefined() const { return is<Undefined>(); }
  bool is_none() const { return is<None>(); }
  bool is_string() const { return is<std::string>(); }
  bool is_integer() const { return is<std::int64_t>() || is<bool>(); }  // True is 1
  bool is_number() const { return is_integer() || is<double>(); }
  bool is_list() const { return is<std::shared_ptr<List>>(); }
  bool is_dictionary() const { return is<std::shared_ptr<Dictionary>>(); }
  bool is_function() const { return is<std::shared_ptr<Function>>(); }

  const std::string& text() const { return as<std::string>(); }
  const List& list() const { return *as<std::shared_ptr<List>>(); }
  Dictionary& dictionary() const { return *as<std::shared_ptr<Dictionary>>(); }
  std::int64_t integer() const { return is<bool>() ? std::int64_t{as<bool>()} : as<std::int64_t>(); }
  double number() const { return is<double>() ? as<double>() : static_cast<double>(integer()); }

  bool truth() const;
  std::string printed() const;      // str()
  std::string represented() const;  // repr()
  const char* type() const;         // Python's word: "str"
  // json.dumps(ensure_ascii=False); indent < 0: on one line. Error: what JSON has no form for.
  std::string to_json(std::int64_t indent) const;

 private:
  Content content_;
};

bool operator==(const Value& a, const Value& b);

// The characters of valid UTF-8 (other bytes count as one each), for indices into strings.
std::vector<std::string_view> characters_of(std::string_view text);

}  // namespace muonp::core::jinja
