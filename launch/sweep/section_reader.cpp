#include "launch/sweep/section_reader.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/config/config_values.h"

namespace muonp::launch {

using core::config::Tree;

SectionReader::SectionReader(const Tree& tree, std::string path) : tree_(tree), path_(std::move(path)) {
  if (tree.kind != Tree::Kind::section && tree.kind != Tree::Kind::null)
    core::fail("{}: {}expected a section (keys with values), found {}", tree.where, path_.empty() ? "" : path_ + ": ",
               tree.found());
}

std::string SectionReader::path_of(std::string_view key) const {
  return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
}

const Tree* SectionReader::find(std::string_view key, Tree::Kind kind, const std::string& valid) {
  known_.emplace_back(key);
  const Tree::Entry* entry = tree_.find(key);
  if (entry == nullptr) return nullptr;
  if (entry->value.kind != kind)
    core::fail("{}: {}: expected {}, found {}", entry->where, path_of(key), valid, entry->value.found());
  return &entry->value;
}

std::string SectionReader::text(std::string_view key, const std::string& otherwise) {
  const Tree* tree = find(key, Tree::Kind::scalar, "a text");
  return tree == nullptr ? otherwise : tree->scalar;
}

std::int64_t SectionReader::integer(std::string_view key, std::int64_t otherwise, core::IntegerRange valid) {
  const Tree* tree = find(key, Tree::Kind::scalar, core::config::describe_valid(valid));
  if (tree == nullptr && otherwise >= valid.min) return otherwise;
  if (tree == nullptr)
    core::fail("{}: {}: missing; it is {}", tree_.where, path_of(key), core::config::describe_valid(valid));
  const auto [value, problem] = core::config::read_integer(tree->scalar, valid);
  if (!value) core::fail("{}: {}: {}", tree->where, path_of(key), problem);
  return *value;
}

std::vector<std::string> SectionReader::texts(std::string_view key) {
  std::vector<std::string> all;
  const Tree* tree = list(key);
  if (tree == nullptr) return all;
  for (const Tree& item : tree->items) {
    if (item.kind != Tree::Kind::scalar)
      core::fail("{}: {}: expected texts, found {}", item.where, path_of(key), item.found());
    all.push_back(item.scalar);
  }
  return all;
}

std::size_t SectionReader::choice(std::string_view key, std::span<const std::string_view> words) {
  const std::vector<std::string> valid(words.begin(), words.end());
  const Tree* tree = find(key, Tree::Kind::scalar, "one of " + core::config::quoted_list(valid));
  if (tree == nullptr) return 0;
  const auto found = std::ranges::find(valid, tree->scalar);
  if (found == valid.end())
    core::fail("{}: {}: '{}' is not a valid value;{} valid values are {}", tree->where, path_of(key), tree->scalar,
               core::config::suggestion(tree->scalar, valid), core::config::quoted_list(valid));
  return static_cast<std::size_t>(found - valid.begin());
}

const Tree* SectionReader::section(std::string_view key) {
  return find(key, Tree::Kind::section, "a section (keys with values)");
}

const Tree* SectionReader::list(std::string_view key) { return find(key, Tree::Kind::list, "a list, as in [a, b]"); }

void SectionReader::finish() const {
  for (const Tree::Entry& entry : tree_.keys)
    if (std::ranges::find(known_, entry.key) == known_.end())
      core::fail("{}: {}: unknown key;{} valid keys are {}", entry.where, path_of(entry.key),
                 core::config::suggestion(entry.key, known_), core::config::quoted_list(known_));
}

}  // namespace muonp::launch
