// Which parameter belongs to which group of the optimizer: each to exactly one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/autograd/parameter.h"
#include "core/base/index.h"
#include "core/base/pattern.h"
#include "optim/plan/config.h"

namespace muonp::optim {

struct Group {
  GroupConfig config;
  std::vector<int> parameters;  // indices in the parameter list, ascending
  std::int64_t elements = 0;
};

struct GroupRow {  // of the start-up table
  std::string group, rule;
  std::int64_t parameters = 0, elements = 0;
  double lr = 0;
};

class Groups {
 public:
  // Groups in the order of config.groups, then `matrices`, then `others`; a parameter belongs to the first
  // that selects it, and to `others` if none does. Groups without parameters are left out. Error for:
  // - a parameter listed twice (a tied weight is one parameter) or two with one name
  // - a name pattern, of a selection or a split, that matches nothing (it names the nearest parameters), or
  // nothing
  //   that an earlier group has not taken; a group of config.groups that ends up empty
  // - rule muonp on a parameter that is neither [rows, columns] nor [count, rows, columns]
  // - a parameter that two splits match, or that a split does not divide
  Groups(const OptimizerConfig& config, const core::ParameterList& parameters);

  const std::vector<Group>& groups() const { return groups_; }
  int group_of(int parameter) const { return group_of_[core::at(parameter)]; }
  const Group& group_for(int parameter) const { return groups_[core::at(group_of(parameter))]; }
  // The same groups of some of the parameters, given in ascending order and counted anew from 0; a group may be left empty.
  Groups restricted_to(const std::vector<int>& parameters, const core::ParameterList& all) const;
  // Null where the parameter is not split. The pointer is valid as long as this object, and after it is
  // moved.
  const Split* split_of(int parameter) const;
  std::vector<GroupRow> rows() const;

 private:
  Groups() = default;
  std::vector<Group> groups_;
  std::vector<int> group_of_;
  std::vector<std::optional<Split>> splits_;
};

using core::matches_pattern;

}  // namespace muonp::optim
