// config_values: the same description, as a flat list.
#include <fmt/format.h>

#include "core/config/config_values.h"

namespace muonp::core {
namespace {

class Lister final : public Fields {
 public:
  Lister(std::string prefix, NamedValues& values) : prefix_(std::move(prefix)), values_(values) {}

  void integer(std::string_view name, std::int64_t& value, IntegerRange, std::string_view) override {
    add(name, fmt::format("{}", value));
  }
  void real(std::string_view name, double& value, RealRange, std::string_view) override {
    add(name, config::format_real(value));
  }
  void step_value(std::string_view name, StepValue& value, RealRange, std::string_view) override { add(name, value.text()); }
  void step_text(std::string_view name, StepText& value, std::string_view) override {
    add(name, config::format_text(value.text()));
  }
  void boolean(std::string_view name, bool& value, std::string_view) override { add(name, value ? "true" : "false"); }
  void text(std::string_view name, std::string& value, std::string_view, Presence) override {
    add(name, config::format_text(value));
  }
  void choice(std::string_view name, std::string& value, std::span<const std::string_view>, std::string_view) override {
    add(name, config::format_text(value));
  }
  void text_list(std::string_view name, std::vector<std::string>& value, std::string_view) override {
    std::string items;
    for (const std::string& item : value) items += (items.empty() ? "" : ", ") + config::format_text(item);
    add(name, "[" + items + "]");
  }
  void section(std::string_view name, const std::function<void(Fields&)>& describe, std::string_view) override {
    Lister below(path_of(name) + ".", values_);
    describe(below);
  }
  void section_list(std::string_view name, std::size_t size, const std::function<void(std::size_t)>&,
                    const std::function<void(std::size_t, Fields&)>& describe, std::string_view) override {
    add(name, fmt::format("{}", size));
    for (std::size_t i = 0; i < size; ++i) {
      Lister below(fmt::format("{}.{}.", path_of(name), i), values_);
      describe(i, below);
    }
  }

 private:
  std::string path_of(std::string_view name) const { return prefix_ + std::string(name); }
  void add(std::string_view name, std::string value) { values_.push_back({path_of(name), std::move(value)}); }

  std::string prefix_;
  NamedValues& values_;
};

}  // namespace

NamedValues config_values(const Describe& describe) {
  NamedValues values;
  Lister lister("", values);
  describe(lister);
  return values;
}

}  // namespace muonp::core
