// Typed configuration. A plain struct with defaults is the schema: its describe() names every field once, and
// that one description parses YAML, validates, prints the resolved file and prints the reference.
//
//   struct CheckpointConfig {
//     std::int64_t keep = 3;
//     void describe(core::Fields& f) { f.integer("keep", keep, {.min = 1}, "checkpoints kept, oldest deleted
//     first"); }
//   };
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/step_value.h"

namespace muonp::core {

struct IntegerRange {
  std::int64_t min = std::numeric_limits<std::int64_t>::min();
  std::int64_t max = std::numeric_limits<std::int64_t>::max();
};
struct RealRange {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
};
enum class Presence : std::uint8_t { optional, required };

// What describe() calls, one call a field. `meaning` is one line; it ends in the unit in brackets where there
// is one. A number whose default lies outside its valid range has no default: like a required text, it has to
// be given.
class Fields {
 public:
  virtual ~Fields() = default;
  virtual void integer(std::string_view name, std::int64_t& value, IntegerRange valid, std::string_view meaning) = 0;
  virtual void real(std::string_view name, double& value, RealRange valid, std::string_view meaning) = 0;
  // A number, or a schedule of numbers.
  virtual void step_value(std::string_view name, StepValue& value, RealRange valid, std::string_view meaning) = 0;
  // A text, or a schedule of texts; whoever describes it knows which are valid.
  virtual void step_text(std::string_view name, StepText& value, std::string_view meaning) = 0;
  virtual void boolean(std::string_view name, bool& value, std::string_view meaning) = 0;
  virtual void text(std::string_view name, std::string& value, std::string_view meaning,
                    Presence presence = Presence::optional) = 0;
  virtual void choice(std::string_view name, std::string& value, std::span<const std::string_view> valid,
                      std::string_view meaning) = 0;
  virtual void text_list(std::string_view name, std::vector<std::string>& value, std::string_view meaning) = 0;
  // A nested section: calls describe(fields) for what is below `name`.
  virtual void section(std::string_view name, const std::function<void(Fields&)>& describe, std::string_view meaning) = 0;
  // A list of sections; resize(n) makes room for n entries, describe(i, fields) describes the i-th.
  virtual void section_list(std::string_view name, std::size_t size, const std::function<void(std::size_t)>& resize,
                            const std::function<void(std::size_t, Fields&)>& describe, std::string_view meaning) = 0;
  // Keys of this level that exist only where another key has another value, `condition` ("rule: adamw"): a reference prints
  // them as comments, and a file that gives one is told of the condition. Nothing else looks at them.
  virtual void others_if(std::string_view /*condition*/, const std::function<void(Fields&)>& /*describe*/) {}
};

using Describe = std::function<void(Fields&)>;

// Reads `file`, applies `overrides` ("a.b=c", same paths as the YAML, list entries by index as in "a.0.b=c"),
// fills the fields. describe() runs once for the file and once for the overrides. Unknown keys, wrong types, values out of
// range and missing required keys are one Error: a line for each with file:line, the nearest valid key and what is valid.
// Overrides count together: their order does not matter, but of one key the last one holds. Of what this program wrote
// itself (Origin::by_the_program), older versions of it perhaps, keys that exist under other conditions only (others_if)
// are passed over.
enum class Origin : std::uint8_t { by_hand, by_the_program };
void read_config(const std::string& file, std::span<const std::string> overrides, const Describe& describe,
                 Origin origin = Origin::by_hand);
// The same from a string; `source` stands for the file's name in messages.
void read_config_text(const std::string& yaml, const std::string& source, std::span<const std::string> overrides,
                      const Describe& describe);
// What a person knows by a name: a setting and its value, for example.
struct NamedValue {
  std::string name, value;
  bool operator==(const NamedValue&) const = default;
};
using NamedValues = std::vector<NamedValue>;
// Every field by its path ("optimizer.groups.0.lr"), its value as write_config() prints it, in the order of
// the description. A list of sections has its number of entries under its own path, before them.
NamedValues config_values(const Describe& describe);
// Tells each schedule how long the run is. Error: a line for each key, `prefix` before its path, that has values after the
// last step.
void set_run_length(const Describe& describe, std::int64_t steps, std::string_view prefix = "");
// Error that names each key that is relative to the run and was not told how long that is.
void require_run_length(const Describe& describe, std::string_view prefix = "");
// YAML that reads back to the same values.
std::string write_config(const Describe& describe);
// Every key with its default, valid values and meaning, as commented YAML that reads back to the defaults
// once the keys that have none, left empty in it, are filled in.
std::string config_reference(const Describe& describe);

// The candidate with the smallest edit distance to `word`; empty if there are none.
std::string nearest(std::string_view word, std::span<const std::string> candidates);

}  // namespace muonp::core
