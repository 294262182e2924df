// read_config: a Fields that takes values from a Tree and collects every problem it meets.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "core/base/error.h"
#include "core/config/config_tree.h"
#include "core/config/config_values.h"

namespace muonp::core {
namespace {

using config::Tree;

constexpr std::size_t kMostProblems = 10;

class Problems {
 public:
  void add(const std::string& where, const std::string& path, const std::string& what) {
    std::string line = path.empty() ? fmt::format("{}: {}", where, what) : fmt::format("{}: {}: {}", where, path, what);
    if (std::find(lines_.begin(), lines_.end(), line) == lines_.end()) lines_.push_back(std::move(line));
  }

  void throw_if_any() const {
    if (lines_.empty()) return;
    std::string message;
    for (std::size_t i = 0; i < std::min(lines_.size(), kMostProblems); ++i) message += (i == 0 ? "" : "\n") + lines_[i];
    if (lines_.size() > kMostProblems) message += fmt::format("\n... and {} more", lines_.size() - kMostProblems);
    throw Error(message);
  }

 private:
  std::vector<std::string> lines_;
};

// Required keys, over all passes: a key that the file lacks may be given by an override.
class Required {
 public:
  void missing(const std::string& path, const std::string& where, std::string_view meaning) {
    missing_.emplace(path, fmt::format("{}\n{}", where, meaning));
  }
  void given(const std::string& path) { given_.insert(path); }

  void report(Problems& problems) const {
    for (const auto& [path, note] : missing_) {
      if (given_.contains(path)) continue;
      const std::size_t cut = note.find('\n');
      problems.add(note.substr(0, cut), path, fmt::format("missing, and it has no default ({})", note.substr(cut + 1)));
    }
  }

 private:
  std::map<std::string, std::string> missing_;
  std::set<std::string> given_;
};

// Fills the fields from one tree. `patching`: the tree is an override, in which the keys of a section list
// are the indices of entries that exist already.
// "rule: a, b or c" of "rule: a", "rule: b" and "rule: c".
std::string any_of(const std::vector<std::string>& conditions) {
  const std::string key = conditions.front().substr(0, conditions.front().find(": ") + 2);
  std::string all = conditions.front();
  for (std::size_t i = 1; i < conditions.size(); ++i) {
    const std::string& next = conditions[i];
    all += (i + 1 == conditions.size() ? " or " : ", ") + (next.starts_with(key) ? next.substr(key.size()) : next);
  }
  return all;
}

class Reader : public Fields {
 public:
  Reader(const Tree& root, const std::string& source, bool patching, Origin origin, Problems& problems, Required& required)
      : patching_(patching),
        origin_(origin),
        problems_(problems),
        required_(required),
        level_{.tree = &root, .where = source, .path = "", .known = {}, .conditions = {}} {}

  void read(const Describe& describe) {
    if (expect_section(*level_.tree, "")) describe_level(describe);
  }

  void integer(std::string_view name, std::int64_t& value, IntegerRange valid, std::string_view meaning) override {
    const bool has_default = value >= valid.min && value <= valid.max;
    const Tree* tree = number(name, config::describe_valid(valid), has_default, meaning);
    if (tree == nullptr) return;
    const auto [parsed, problem] = config::read_integer(tree->scalar, valid);
    if (!parsed) return report(*tree, name, problem);
    value = *parsed;
  }

  void real(std::string_view name, double& value, RealRange valid, std::string_view meaning) override {
    const bool has_default = value >= valid.min && value <= valid.max;
    const Tree* tree = number(name, config::describe_valid(valid), has_default, meaning);
    if (tree == nullptr) return;
    const auto [parsed, problem] = config::read_real(tree->scalar, valid);
    if (!parsed) return report(*tree, name, problem);
    value = *parsed;
  }

  void step_value(std::string_view name, StepValue& value, RealRange valid, std::string_view meaning) override {
    const bool has_default = value.smallest() >= valid.min && value.largest() <= valid.max;
    const Tree* tree = number(name, config::describe_valid(valid), has_default, meaning);
    if (tree == nullptr) return;
    try {
      StepValue parsed;
      if (!StepValue::is_schedule(tree->scalar)) {
        const auto [real, problem] = config::read_real(tree->scalar, valid);
        if (!real) return report(*tree, name, problem);
        parsed = *real;
      } else {
        parsed = StepValue::parse(tree->scalar);
      }
      for (const double end : {parsed.smallest(), parsed.largest()})
        if (const auto [real, problem] = config::read_real(config::format_real(end), valid); !real)
          return report(*tree, name, problem);
      value = parsed;
    } catch (const Error& error) {
      report(*tree, name, error.what());
    }
  }

  void step_text(std::string_view name, StepText& value, std::string_view meaning) override {
    const Tree* tree = value_of(name, true, meaning);
    if (tree == nullptr || !expect(*tree, Tree::Kind::scalar, name, "a text, or texts at steps")) return;
    try {
      value = StepText(tree->scalar);
    } catch (const Error& error) {
      report(*tree, name, error.what());
    }
  }

  void boolean(std::string_view name, bool& value, std::string_view meaning) override {
    const Tree* tree = number(name, "true or false", true, meaning);
    if (tree == nullptr) return;
    const std::optional<bool> parsed = config::parse_boolean(tree->scalar);
    if (!parsed) return report(*tree, name, fmt::format("expected true or false, found {}", tree->found()));
    value = *parsed;
  }

  void text(std::string_view name, std::string& value, std::string_view meaning, Presence presence) override {
    const Tree* tree = value_of(name, presence == Presence::optional, meaning);
    if (tree == nullptr || !expect(*tree, Tree::Kind::scalar, name, "a text (\"\" for an empty one)")) return;
    if (presence == Presence::required && tree->scalar.empty())
      return report(*tree, name, fmt::format("must not be empty ({})", meaning));
    value = tree->scalar;
  }

  void choice(std::string_view name, std::string& value, std::span<const std::string_view> valid,
              std::string_view) override {
    const std::vector<std::string> words(valid.begin(), valid.end());
    const Tree* tree = value_of(name);
    if (tree == nullptr) return;
    if (!expect(*tree, Tree::Kind::scalar, name, "one of " + config::quoted_list(words))) return;
    if (std::find(words.begin(), words.end(), tree->scalar) == words.end())
      return report(*tree, name,
                    fmt::format("'{}' is not a valid value;{} valid values are {}", tree->scalar,
                                config::suggestion(tree->scalar, words), config::quoted_list(words)));
    value = tree->scalar;
  }

  void text_list(std::string_view name, std::vector<std::string>& value, std::string_view) override {
    const Tree* tree = value_of(name);
    if (tree == nullptr || !expect(*tree, Tree::Kind::list, name, "a list of texts, as in [a, b]")) return;
    std::vector<std::string> items;
    for (std::size_t i = 0; i < tree->items.size(); ++i) {
      if (!expect(tree->items[i], Tree::Kind::scalar, fmt::format("{}.{}", name, i), "a text")) return;
      items.push_back(tree->items[i].scalar);
    }
    value = std::move(items);
  }

  void section(std::string_view name, const std::function<void(Fields&)>& describe, std::string_view) override {
    const Tree* tree = value_of(name);
    const std::string here = path(name);
    if (tree != nullptr && !expect_section(*tree, here)) return;
    within(tree != nullptr ? tree : &kNothing, tree != nullptr ? tree->where : level_.where, here, describe);
  }

  void section_list(std::string_view name, std::size_t size, const std::function<void(std::size_t)>& resize,
                    const std::function<void(std::size_t, Fields&)>& describe, std::string_view) override {
    const Tree* tree = value_of(name);
    if (tree == nullptr) return;
    if (patching_ && tree->kind == Tree::Kind::section) return patch_entries(*tree, name, size, describe);
    if (!expect(*tree, Tree::Kind::list, name, "a list of sections")) return;
    resize(0);  // entries start from their own defaults, not from those of the default list
    resize(tree->items.size());
    const bool outer = std::exchange(patching_, false);  // whole new entries, also in an override
    for (std::size_t i = 0; i < tree->items.size(); ++i) read_entry(tree->items[i], name, i, describe);
    patching_ = outer;
  }

  void others_if(std::string_view condition, const std::function<void(Fields&)>& describe) override {
    for (const NamedValue& key : config_values(describe)) {  // of a section, its name
      std::vector<std::string>& all = level_.conditions[key.name.substr(0, key.name.find('.'))];
      const auto says_it = [condition](const std::string& other) {  // "family: gpt" is in "family: gpt or gpt2"
        return other.starts_with(condition) && (other.size() == condition.size() || other[condition.size()] == ' ');
      };
      if (std::ranges::none_of(all, says_it)) all.emplace_back(condition);
    }
  }

 private:
  struct Level {
    const Tree* tree;
    std::string where;
    std::string path;
    std::vector<std::string> known;
    std::map<std::string, std::vector<std::string>> conditions;  // of keys that others_if() named
  };

  std::string path(std::string_view name) const {
    return level_.path.empty() ? std::string(name) : fmt::format("{}.{}", level_.path, name);
  }

  void report(const Tree& tree, std::string_view name, const std::string& what) {
    problems_.add(tree.where, path(name), what);
  }

  // The value of `name` at this level, or nullptr; notes that the key exists, and that it is missing if it
  // has to be given.
  const Tree* value_of(std::string_view name, bool has_default = true, std::string_view meaning = "") {
    level_.known.emplace_back(name);
    const Tree::Entry* entry = level_.tree->find(name);
    if (entry == nullptr && !has_default && !patching_) required_.missing(path(name), level_.where, meaning);
    if (entry == nullptr) return nullptr;
    required_.given(path(name));
    return &entry->value;
  }

  bool expect(const Tree& tree, Tree::Kind kind, std::string_view name, const std::string& valid) {
    if (tree.kind == kind) return true;
    report(tree, name, fmt::format("expected {}, found {}", valid, tree.found()));
    return false;
  }

  // The value of `name` if it is an unquoted scalar that is not empty; otherwise nullptr, reported if it is
  // given.
  const Tree* number(std::string_view name, const std::string& valid, bool has_default, std::string_view meaning) {
    const Tree* tree = value_of(name, has_default, meaning);
    if (tree == nullptr || !expect(*tree, Tree::Kind::scalar, name, valid)) return nullptr;
    if (!tree->quoted && !tree->scalar.empty()) return tree;
    report(*tree, name, fmt::format("expected {}, found {}", valid, tree->scalar.empty() ? "nothing" : tree->found()));
    return nullptr;
  }

  bool expect_section(const Tree& tree, const std::string& here) {
    if (tree.kind == Tree::Kind::section || tree.kind == Tree::Kind::null) return true;
    problems_.add(tree.where, here, fmt::format("expected a section (keys with values), found {}", tree.found()));
    return false;
  }

  void describe_level(const Describe& describe) {
    describe(*this);
    for (const Tree::Entry& entry : level_.tree->keys) {
      if (std::find(level_.known.begin(), level_.known.end(), entry.key) != level_.known.end()) continue;
      if (const auto elsewhere = level_.conditions.find(entry.key); elsewhere != level_.conditions.end()) {
        if (origin_ == Origin::by_hand)
          problems_.add(entry.where, path(entry.key),
                        fmt::format("a key that is there with {} only", any_of(elsewhere->second)));
        continue;
      }
      problems_.add(entry.where, path(entry.key),
                    fmt::format("unknown key;{} valid keys are {}", config::suggestion(entry.key, level_.known),
                                config::quoted_list(level_.known)));
    }
  }

  void within(const Tree* tree, const std::string& where, const std::string& here, const Describe& describe) {
    Level outer = std::exchange(level_, Level{tree, where, here, {}, {}});
    describe_level(describe);
    level_ = std::move(outer);
  }

  void read_entry(const Tree& tree, std::string_view name, std::size_t index,
                  const std::function<void(std::size_t, Fields&)>& describe) {
    const std::string here = path(fmt::format("{}.{}", name, index));
    if (!expect_section(tree, here)) return;
    within(&tree, tree.where, here, [&](Fields& fields) { describe(index, fields); });
  }

  void patch_entries(const Tree& tree, std::string_view name, std::size_t size,
                     const std::function<void(std::size_t, Fields&)>& describe) {
    for (const Tree::Entry& entry : tree.keys) {
      const auto index = config::parse_integer(entry.key).value;
      if (index && *index >= 0 && *index < static_cast<std::int64_t>(size)) {
        read_entry(entry.value, name, static_cast<std::size_t>(*index), describe);
      } else {
        const std::string valid = size == 0 ? "the list is empty" : fmt::format("valid entries are 0 to {}", size - 1);
        problems_.add(entry.where, path(fmt::format("{}.{}", name, entry.key)), "no such entry; " + valid);
      }
    }
  }

  inline static const Tree kNothing{};
  bool patching_;
  Origin origin_;
  Problems& problems_;
  Required& required_;
  Level level_;
};

std::string read_text_file(const std::string& file) {
  std::error_code ignored;
  if (std::filesystem::is_directory(file, ignored)) fail("{}: is a folder; a YAML file is expected", file);
  std::ifstream stream(file, std::ios::binary);
  if (!stream) fail("{}: cannot be opened: {}", file, std::strerror(errno));
  std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  if (stream.bad()) fail("{}: cannot be read: {}", file, std::strerror(errno));
  if (text.find('\0') != std::string::npos) fail("{}: holds binary data; a YAML file is expected", file);
  return text;
}

// Whether `later` could be taken into `tree`: sections are, key by key, and of one scalar or list the later holds.
bool merge(Tree& tree, const Tree& later) {
  if (tree.kind != Tree::Kind::section || later.kind != Tree::Kind::section) {
    if (tree.kind == Tree::Kind::section || later.kind == Tree::Kind::section) return false;
    tree = later;
    return true;
  }
  for (const Tree::Entry& entry : later.keys) {
    const auto known = std::ranges::find(tree.keys, entry.key, &Tree::Entry::key);
    if (known == tree.keys.end())
      tree.keys.push_back(entry);
    else if (known->where = entry.where; !merge(known->value, entry.value))
      return false;
  }
  return true;
}

// As few trees as can be: what cannot be merged, as a list and then an entry of it, comes one after the other.
std::vector<Tree> patches_of(std::span<const std::string> overrides) {
  std::vector<Tree> patches;
  for (const std::string& assignment : overrides) {
    const Tree patch = config::parse_override(assignment);
    Tree merged = patches.empty() ? Tree{} : patches.back();
    if (!patches.empty() && merge(merged, patch))
      patches.back() = std::move(merged);
    else
      patches.push_back(patch);
  }
  return patches;
}

void fill(const Tree& root, const std::string& source, std::span<const std::string> overrides, const Describe& describe,
          Origin origin = Origin::by_hand) {
  Problems problems;
  Required required;
  Reader(root, source, false, origin, problems, required).read(describe);
  for (const Tree& patch : patches_of(overrides))
    Reader(patch, patch.where, true, Origin::by_hand, problems, required).read(describe);
  required.report(problems);
  problems.throw_if_any();
}

}  // namespace

void read_config(const std::string& file, std::span<const std::string> overrides, const Describe& describe, Origin origin) {
  const Tree root = config::parse_tree(read_text_file(file), file);
  if (root.kind == Tree::Kind::null)
    fail("{}: the file is empty; 'muonp config --reference' prints every key with its default", file);
  fill(root, file, overrides, describe, origin);
}

void read_config_text(const std::string& yaml, const std::string& source, std::span<const std::string> overrides,
                      const Describe& describe) {
  fill(config::parse_tree(yaml, source), source, overrides, describe);
}

}  // namespace muonp::core
