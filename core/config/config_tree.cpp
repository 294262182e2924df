#include "core/config/config_tree.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/utf8.h"
#include "core/config/config_values.h"

namespace muonp::core::config {
namespace {

constexpr int kDeepest = 64;               // levels; also ends references that contain themselves
constexpr std::int64_t kLargest = 100000;  // values; ends references that multiply

// The first character that looks like a space and is none, as "a no-break space (U+00A0)"; empty if there is none.
std::string false_space(std::string_view text) {
  for (std::size_t length = 1; !text.empty(); text.remove_prefix(length)) {
    length = std::max<std::size_t>(utf8_length(text), 1);
    if (length == 1) continue;
    const std::uint32_t code = code_point(text.substr(0, length));
    if (code == 0xa0) return "a no-break space (U+00A0)";
    if ((code >= 0x2000 && code <= 0x200b) || code == 0x1680 || code == 0x202f || code == 0x205f || code == 0x2060 ||
        code == 0x3000 || code == 0xfeff)
      return fmt::format("a space that is none to YAML (U+{:04X})", code);
  }
  return "";
}

// Line `number`, counted from 0; empty if there is none.
std::string_view line_of(std::string_view text, int number) {
  for (; number > 0 && !text.empty(); --number) text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
  return text.substr(0, text.find('\n'));
}

// Line and cause of a syntax error where the library's own words would not tell: what cannot be seen.
std::string unseen_cause(const std::string& yaml, const std::string& source, int line) {
  const std::string_view here = line_of(yaml, line);
  if (here.substr(0, here.find_first_not_of(" \t-?:")).find('\t') != std::string_view::npos)
    return fmt::format("{}:{}: not valid YAML: the line is indented with a tab; YAML indents with spaces", source, line + 1);
  for (const int number : {line, line - 1})
    if (const std::string space = number < 0 ? "" : false_space(line_of(yaml, number)); !space.empty())
      return fmt::format("{}:{}: not valid YAML: the line has {}", source, number + 1, space);
  return "";
}

class Converter {
 public:
  // `with_lines` false: `source` already says all (an override is one line).
  Converter(const std::string& source, bool with_lines) : source_(source), with_lines_(with_lines) {}

  std::string at(const YAML::Mark& mark) const {
    return with_lines_ && mark.line >= 0 ? fmt::format("{}:{}", source_, mark.line + 1) : source_;
  }

  Tree convert(const YAML::Node& node, int depth) {
    const std::string where = at(node.Mark());
    if (depth > kDeepest) fail("{}: sections and lists nest more than {} deep", where, kDeepest);
    if (++values_ > kLargest) fail("{}: more than {} values", where, kLargest);
    if (const std::string& tag = node.Tag(); !tag.empty() && tag != "?" && tag != "!")
      fail("{}: the tag {} is not read here; write the value without it", where, tag);
    Tree tree;
    tree.where = where;
    if (node.IsScalar()) {
      tree.kind = Tree::Kind::scalar;
      tree.scalar = node.Scalar();
      tree.quoted = node.Tag() == "!";
      if (with_lines_ && !tree.quoted) require_true_spaces(tree.scalar, where);
    } else if (node.IsSequence()) {
      tree.kind = Tree::Kind::list;
      for (const YAML::Node& item : node) tree.items.push_back(convert(item, depth + 1));
    } else if (node.IsMap()) {
      tree.kind = Tree::Kind::section;
      for (const auto& pair : node) add_key(tree, pair.first, pair.second, depth);
    }
    return tree;
  }

 private:
  static void require_true_spaces(const std::string& text, const std::string& where) {
    if (const std::string space = false_space(text); !space.empty())
      fail("{}: '{}' has {}; a text that is to have it stands in quotes", where, text, space);
  }

  void add_key(Tree& section, const YAML::Node& key, const YAML::Node& value, int depth) {
    const std::string where = at(key.Mark());
    if (!key.IsScalar()) fail("{}: a key must be a plain word", where);
    require_true_spaces(key.Scalar(), where);
    if (key.Scalar() == "<<") fail("{}: merge keys (<<) are not read here; write the keys themselves", where);
    if (const Tree::Entry* first = section.find(key.Scalar()))
      fail("{}: {}: the key is given twice, first at {}", where, key.Scalar(), first->where);
    Tree converted = convert(value, depth + 1);
    if (converted.kind != Tree::Kind::scalar) converted.where = where;  // messages point at the key
    section.keys.push_back({key.Scalar(), where, std::move(converted)});
  }

  const std::string& source_;
  bool with_lines_;
  std::int64_t values_ = 0;
};

Tree parse(const std::string& yaml, const std::string& source, bool with_lines) {
  Converter converter(source, with_lines);
  if (const std::size_t at = first_invalid_utf8(yaml); at != std::string::npos) {
    const auto lines = std::count(yaml.begin(), yaml.begin() + static_cast<std::ptrdiff_t>(at), '\n');
    fail("{}: not UTF-8, in which configurations are written",
         with_lines ? fmt::format("{}:{}", source, lines + 1) : source);
  }
  std::vector<YAML::Node> documents;
  try {
    documents = YAML::LoadAll(yaml);
  } catch (const YAML::Exception& problem) {
    const std::string unseen = with_lines ? unseen_cause(yaml, source, problem.mark.line) : "";
    if (!unseen.empty()) fail("{}", unseen);
    fail("{}: not valid YAML: {}", converter.at(problem.mark), problem.msg);
  }
  if (documents.size() > 1) fail("{}: {} YAML documents, separated by '---'; there must be one", source, documents.size());
  return converter.convert(documents.empty() ? YAML::Node() : documents.front(), 0);
}

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::vector<std::string> split_path(std::string_view path, const std::string& where) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    if (end == begin) fail("{}: the path has an empty part; write --set section.key=value", where);
    parts.emplace_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

Tree override_value(std::string_view text, const std::string& where) {
  const bool structured = !text.empty() && std::string_view("[{\"'").find(text[0]) != std::string_view::npos;
  if (structured) return parse(std::string(text), where, false);
  Tree tree;
  if (first_invalid_utf8(text) != std::string::npos) fail("{}: not UTF-8, in which configurations are written", where);
  tree.kind = Tree::Kind::scalar;
  tree.scalar = text;
  tree.where = where;
  return tree;
}

}  // namespace

const Tree::Entry* Tree::find(std::string_view key) const {
  const auto entry = std::find_if(keys.begin(), keys.end(), [&](const Entry& e) { return e.key == key; });
  return entry == keys.end() ? nullptr : &*entry;
}

std::string Tree::found() const {
  switch (kind) {
    case Kind::scalar:
      return quoted ? fmt::format("the text \"{}\"", scalar) : fmt::format("'{}'", scalar);
    case Kind::list:
      return "a list";
    case Kind::section:
      return "a section";
    case Kind::null:
      break;
  }
  return "nothing";
}

Tree parse_tree(const std::string& yaml, const std::string& source) { return parse(yaml, source, true); }

Tree parse_override(const std::string& assignment) {
  const std::string where = "--set " + assignment;
  const std::size_t equals = assignment.find('=');
  if (equals == std::string::npos) fail("{}: no '='; write --set section.key=value", where);
  const std::vector<std::string> path = split_path(trimmed(std::string_view(assignment).substr(0, equals)), where);
  Tree tree = override_value(trimmed(std::string_view(assignment).substr(equals + 1)), where);
  for (auto part = path.rbegin(); part != path.rend(); ++part) {
    Tree section;
    section.kind = Tree::Kind::section;
    section.where = where;
    section.keys.push_back({*part, where, std::move(tree)});
    tree = std::move(section);
  }
  return tree;
}

}  // namespace muonp::core::config
