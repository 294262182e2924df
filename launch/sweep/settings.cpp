#include "launch/sweep/settings.h"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/config/config_values.h"

namespace muonp::launch {

using core::config::Tree;

namespace {

std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

// Whether a plain text would end, or be something else, amid a list in flow style.
bool needs_quotes(const std::string& text) {
  constexpr std::string_view kFirst = "&*!|>%@`#-?:";
  const bool starts = text.empty() || (kFirst.find(text[0]) != std::string_view::npos && !number_in(text));
  return starts || text.find_first_of(",[]{}\"'") != std::string::npos || text.find(": ") != std::string::npos ||
         text.find(" #") != std::string::npos;
}

// `within`: a list or a section in flow style.
std::string flow_text(const Tree& tree, const std::string& path, bool within) {
  std::string items;
  switch (tree.kind) {
    case Tree::Kind::null:
      break;
    case Tree::Kind::scalar:
      return tree.quoted || (within && needs_quotes(tree.scalar)) ? quoted(tree.scalar) : tree.scalar;
    case Tree::Kind::list:
      for (const Tree& item : tree.items) items += (items.empty() ? "" : ", ") + flow_text(item, path, true);
      return "[" + items + "]";
    case Tree::Kind::section:
      for (const Tree::Entry& entry : tree.keys)
        items += fmt::format("{}{}: {}", items.empty() ? "" : ", ", entry.key, flow_text(entry.value, path, true));
      return "{" + items + "}";
  }
  core::fail("{}: {}: there is no value", tree.where, path);
}

// Calls use(path, value, where) for everything in the section that is no section itself.
using Use = std::function<void(const std::string&, const Tree&, const std::string&)>;
void for_each_path(const Tree& section, const std::string& above, const Use& use) {
  for (const Tree::Entry& entry : section.keys) {
    const std::string path = above + entry.key;
    if (entry.value.kind == Tree::Kind::section)
      for_each_path(entry.value, path + ".", use);
    else
      use(path, entry.value, entry.where);
  }
}

template <class Items>
void require_no_collision(const Items& items) {
  for (std::size_t i = 0; i < items.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (paths_collide(items[i].path, items[j].path))
        core::fail("{}: {}: {} is given at {} too", items[i].where, items[i].path, items[j].path, items[j].where);
}

}  // namespace

Settings settings_in(const Tree& section) {
  Settings settings;
  for_each_path(section, "", [&](const std::string& path, const Tree& value, const std::string& where) {
    settings.push_back({path, flow_text(value, path, false), where});
  });
  require_no_collision(settings);
  return settings;
}

std::vector<SettingChoices> choices_in(const Tree& section) {
  std::vector<SettingChoices> all;
  for_each_path(section, "", [&](const std::string& path, const Tree& value, const std::string& where) {
    if (value.kind != Tree::Kind::list)
      core::fail("{}: {}: expected a list of the values to try, as in [0.01, 0.1], found {}", where, path, value.found());
    if (value.items.empty()) core::fail("{}: {}: the list of values to try is empty", where, path);
    SettingChoices choices{path, {}, where};
    for (const Tree& item : value.items) {
      choices.values.push_back(flow_text(item, path, false));
      if (std::count(choices.values.begin(), choices.values.end(), choices.values.back()) > 1)
        core::fail("{}: {}: {} is there twice", where, path, choices.values.back());
    }
    all.push_back(std::move(choices));
  });
  require_no_collision(all);
  return all;
}

std::string as_value(const std::string& text) {
  const bool plain = !text.empty() && std::string_view("[{\"' \t").find(text.front()) == std::string_view::npos &&
                     std::string_view(" \t").find(text.back()) == std::string_view::npos;
  return plain ? text : quoted(text);
}

bool paths_collide(std::string_view a, std::string_view b) {
  const auto below = [](std::string_view longer, std::string_view shorter) {
    return longer.starts_with(shorter) && (longer.size() == shorter.size() || longer[shorter.size()] == '.');
  };
  return below(a, b) || below(b, a);
}

std::optional<double> number_in(std::string_view value) {
  const std::size_t slash = value.find('/');
  if (slash == std::string_view::npos) return core::config::parse_real(value).value;
  const auto above = core::config::parse_real(value.substr(0, slash)).value;
  const auto below = core::config::parse_real(value.substr(slash + 1)).value;
  if (!above || !below || *below == 0) return std::nullopt;
  return *above / *below;
}

}  // namespace muonp::launch
