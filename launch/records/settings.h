// The settings of runs, as they stand in their folders, and which of them differ.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace muonp::launch {

// Values by path ("optimizer.groups.0.lr"), as the file has them; a list of plain values is one value, "[a, b]".
using Settings = std::map<std::string, std::string>;

// Of a config.resolved.yaml, of any version of this program: no key is asked for. Error if it is no YAML.
Settings read_settings(const std::string& file);

struct SettingRow {
  std::string key;
  std::vector<std::string> values;  // one a run; "–" where a run does not have the key
};
// The keys whose values are not the same in all runs, in alphabetical order; without run.name and run.dir, which always may
// differ. One run has none.
std::vector<SettingRow> differing_settings(const std::vector<Settings>& runs);

}  // namespace muonp::launch
