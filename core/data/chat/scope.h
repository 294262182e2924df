// The names that a place in a template sees: those set there, then those around it.
#pragma once

#include <algorithm>
#include <string>
#include <utility>

#include "core/data/chat/value.h"

namespace muonp::core::jinja {

class Scope {
 public:
  explicit Scope(const Scope* parent = nullptr) : parent_(parent) {}
  void set(const std::string& name, Value value) {
    const auto found = std::ranges::find(values_, name, &std::pair<std::string, Value>::first);
    if (found == values_.end())
      values_.emplace_back(name, std::move(value));
    else
      found->second = std::move(value);
  }
  const Value* find(const std::string& name) const {
    const auto found = std::ranges::find(values_, name, &std::pair<std::string, Value>::first);
    if (found != values_.end()) return &found->second;
    return parent_ ? parent_->find(name) : nullptr;
  }

 private:
  const Scope* parent_;
  NamedValues values_;
};

}  // namespace muonp::core::jinja
