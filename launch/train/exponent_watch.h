// The exponents of spectral powers over a run: numbers for metrics.jsonl, and a line where one changes.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "optim/engine/state.h"
#include "optim/plan/groups.h"

namespace muonp::launch {

struct ExponentRecord {
  // "p.<group>"; where a rule chooses p for each matrix, in the steps in which it does, of the mean, and
  // "p.<group>.<matrix>" of each.
  std::vector<std::pair<std::string, double>> numbers;
  std::vector<std::string> lines;  // for people: "matrices: p = 7/16 (0.4391, snapped)", "matrices: p = 0 of 8, 1/4 of 16"
};

class ExponentWatch {
 public:
  // Of an optimizer's step that moved weights, counted from 1.
  ExponentRecord record(const optim::Groups& groups, std::int64_t step, const std::vector<optim::ShownState>& shown);

 private:
  void add_common(const optim::Group& group, std::int64_t step, ExponentRecord& to);
  static void add_chosen(const std::string& group, const std::vector<const optim::ShownState*>& of, ExponentRecord& to);

  std::map<std::string, optim::spectral::Exponent> last_;  // by group
};

}  // namespace muonp::launch
