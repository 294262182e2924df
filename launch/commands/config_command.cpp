// muonp config: every key, or a file as it is understood.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "core/base/error.h"
#include "core/config/config_tree.h"
#include "launch/commands/cli.h"
#include "launch/commands/rules_table.h"
#include "launch/train/run_config.h"

namespace muonp::launch {
namespace {

struct Arguments {
  ConfigArguments config;
  bool reference = false, rules = false, json = false;
  std::vector<std::string> keys;
};

// The value of "section.key", as plain text.
std::string value_of(const core::config::Tree& config, const std::string& path) {
  const core::config::Tree* at = &config;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    const core::config::Tree::Entry* entry = at->find(path.substr(begin, end - begin));
    if (entry == nullptr) core::fail("--get {}: there is no such key; `muonp config --reference` prints all", path);
    at = &entry->value;
    begin = end + 1;
  }
  if (at->kind != core::config::Tree::Kind::scalar) core::fail("--get {}: it is {}, no single value", path, at->found());
  return at->scalar;
}

int run(Session& session, const Arguments& a) {
  if (a.rules) {
    session.log().info("{}", a.json ? rules_as_json() : rules_as_text());
    return 0;
  }
  RunConfig config;
  if (!a.reference) config = load_run_config(a.config.file, a.config.overrides);
  const auto describe = [&](core::Fields& fields) { config.describe(fields); };
  std::string text = a.reference ? core::config_reference(describe) : core::write_config(describe);
  if (!a.keys.empty()) {
    const core::config::Tree tree = core::config::parse_tree(text, a.config.file);
    for (const std::string& key : a.keys) session.log().info("{}", value_of(tree, key));
    return 0;
  }
  if (text.ends_with('\n')) text.pop_back();
  session.log().info("{}", text);
  return 0;
}

}  // namespace

void add_config_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("config", "Check a configuration and print it with all defaults filled in");
  auto a = std::make_shared<Arguments>();
  add_config_arguments(*command, a->config, false);
  command->add_flag("--reference", a->reference, "Print every key with its default, valid values and meaning");
  command->add_flag("--rules", a->rules, "Print every update rule with its keys, defaults, source and state");
  command->add_flag("--json", a->json, "With --rules: as JSON");
  command->add_option("--get", a->keys, "Print only the value of this key, for scripts (repeatable)")
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false)
      ->type_name("KEY");
  command->footer(
      "Examples:\n"
      "  muonp config configs/quickstart.yaml --set optimizer.matrices.p=1/3\n"
      "  muonp config configs/quickstart.yaml --get run.dir --get run.name\n"
      "  muonp config --reference > all-keys.yaml\n"
      "  muonp config --rules");
  command->callback([a, &context] {
    const bool given = !a->config.file.empty();
    if (int{given} + int{a->reference} + int{a->rules} != 1)
      throw CLI::ValidationError("give one of a CONFIG file, --reference and --rules");
    if (a->json && !a->rules) throw CLI::ValidationError("--json goes with --rules");
    if (!given && !(a->config.overrides.empty() && a->keys.empty()))
      throw CLI::ValidationError("--reference and --rules take no --set and no --get");
    context.run = [a](Session& session) { return run(session, *a); };
  });
}

}  // namespace muonp::launch
