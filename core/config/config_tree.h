// The YAML document as a plain tree that knows where each value stands. For readers of files whose keys no description
// names: core/config/*.cpp, launch/sweep.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace muonp::core::config {

struct Tree {
  enum class Kind { null, scalar, list, section };
  struct Entry;

  Kind kind = Kind::null;
  std::string scalar;       // Kind::scalar
  bool quoted = false;      // the scalar stands in quotes: text, whatever is in it
  std::vector<Tree> items;  // Kind::list
  std::vector<Entry> keys;  // Kind::section, in the order of the file
  std::string where;        // "configs/a.yaml:12" or "--set a.b=c"

  const Entry* find(std::string_view key) const;
  std::string found() const;  // what stands there, for messages: "'ten'", "a list", "a section", "nothing"
};

struct Tree::Entry {
  std::string key;
  std::string where;  // of the key
  Tree value;
};

// One YAML document. Syntax errors, several documents, a key twice and keys that are not scalars are an Error
// with source:line. An empty text gives Kind::null.
Tree parse_tree(const std::string& yaml, const std::string& source);

// "a.b=c" as nested sections. c may be a YAML list or section in flow style ([x, y], {a: 1}) or a quoted
// text; anything else is the scalar itself.
Tree parse_override(const std::string& assignment);

}  // namespace muonp::core::config
