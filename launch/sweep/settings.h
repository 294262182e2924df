// Values given to paths of the configuration, as `muonp train --set` takes them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/config_tree.h"

namespace muonp::launch {

struct Setting {
  std::string path, value;  // "optimizer.matrices.lr", "0.01"; lists, sections and quoted texts in YAML's flow style
  std::string where;        // it was said: "sweep.yaml:7"
  std::string assignment() const { return path + "=" + value; }
};
using Settings = std::vector<Setting>;

// What a section of YAML gives values to. `a: {b: 1}` and `a.b: 1` are the same path. Error names a path without a value.
Settings settings_in(const core::config::Tree& section);
// The same where each path has a list of values.
struct SettingChoices {
  std::string path;
  std::vector<std::string> values;  // at least one, no two of them alike
  std::string where;
};
std::vector<SettingChoices> choices_in(const core::config::Tree& section);

// A text as the value of a setting: in quotes where it would be taken for something else.
std::string as_value(const std::string& text);

// Whether two paths cannot both be given: they are the same, or one lies below the other.
bool paths_collide(std::string_view a, std::string_view b);

// "0.01", "1e-3" or "1/2" as a number; nothing for what is none.
std::optional<double> number_in(std::string_view value);

}  // namespace muonp::launch
