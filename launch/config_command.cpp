// muonp config: every key, or a file as it is understood.
#include <CLI/CLI.hpp>

#include "core/error.h"
#include "launch/cli.h"
#include "launch/run_config.h"

namespace muonp::launch {
namespace {

struct Arguments {
  ConfigArguments config;
  bool reference = false;
};

int run(Session& session, const Arguments& a) {
  RunConfig config;
  if (!a.reference) config = load_run_config(a.config.file, a.config.overrides);
  const auto describe = [&](core::Fields& fields) { config.describe(fields); };
  std::string text = a.reference ? core::config_reference(describe) : core::write_config(describe);
  if (text.ends_with('\n')) text.pop_back();
  session.log().info("{}", text);
  return 0;
}

}  // namespace

void add_config_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("config", "Check a configuration and print it with all defaults filled in");
  auto a = std::make_shared<Arguments>();
  add_config_arguments(*command, a->config, false);
  command->add_flag("--reference", a->reference,
                    "Print every key with its default, valid values and meaning");
  command->footer(
      "Examples:\n"
      "  muonp config configs/quickstart.yaml --set optimizer.matrices.p=1/3\n"
      "  muonp config --reference > all-keys.yaml");
  command->callback([a, &context] {
    const bool given = !a->config.file.empty();
    if (given == a->reference) throw CLI::ValidationError("give either a CONFIG file or --reference");
    if (a->reference && !a->config.overrides.empty())
      throw CLI::ValidationError("--reference takes no --set");
    context.run = [a](Session& session) { return run(session, *a); };
  });
}

}  // namespace muonp::launch
