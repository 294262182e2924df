#include "launch/records/settings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "core/config/config_tree.h"
#include "core/files/files.h"

namespace muonp::launch {
namespace {

using core::config::Tree;

bool is_plain(const Tree& tree) { return tree.kind == Tree::Kind::scalar || tree.kind == Tree::Kind::null; }

void flatten(const Tree& tree, const std::string& path, Settings& settings) {
  const auto below = [&](const std::string& name) { return path.empty() ? name : path + "." + name; };
  if (is_plain(tree)) {
    settings[path] = tree.scalar;
  } else if (tree.kind == Tree::Kind::section) {
    for (const Tree::Entry& entry : tree.keys) flatten(entry.value, below(entry.key), settings);
  } else if (std::ranges::all_of(tree.items, is_plain)) {
    std::vector<std::string> words;
    for (const Tree& item : tree.items) words.push_back(item.scalar);
    settings[path] = fmt::format("[{}]", fmt::join(words, ", "));
  } else {
    for (std::size_t i = 0; i < tree.items.size(); ++i) flatten(tree.items[i], below(std::to_string(i)), settings);
  }
}

}  // namespace

Settings read_settings(const std::string& file) {
  Settings settings;
  const Tree tree = core::config::parse_tree(core::read_file(file), file);
  if (tree.kind != Tree::Kind::null) flatten(tree, "", settings);
  return settings;
}

std::vector<SettingRow> differing_settings(const std::vector<Settings>& runs) {
  std::set<std::string> keys;
  for (const Settings& run : runs)
    for (const auto& [key, value] : run) keys.insert(key);
  keys.erase("run.name");
  keys.erase("run.dir");
  std::vector<SettingRow> rows;
  for (const std::string& key : keys) {
    SettingRow row{key, {}};
    for (const Settings& run : runs) row.values.push_back(run.contains(key) ? run.at(key) : "–");
    if (std::ranges::adjacent_find(row.values, std::not_equal_to<>()) != row.values.end()) rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace muonp::launch
