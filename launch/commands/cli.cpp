#include "launch/commands/cli.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>

#include "core/config/config_values.h"
#include "launch/program/build_info.h"

namespace muonp::launch {
namespace {

constexpr const char* kFooter =
    "Examples:\n"
    "  mpirun -np 2 muonp train configs/quickstart.yaml --set run.steps=100\n"
    "  muonp spectral --in G.npy --out Z.npy --p 1/2 --check\n"
    "  muonp config --reference\n"
    "'muonp COMMAND --help' says more about each command.";

void build(CLI::App& app, Context& context) {
  app.name("muonp");
  app.set_version_flag("--version", describe_build());
  app.require_subcommand(1);
  app.footer(kFooter);
  add_train_command(app, context);
  add_eval_command(app, context);
  add_generate_command(app, context);
  add_chat_command(app, context);
  add_tokenize_command(app, context);
  add_spectral_command(app, context);
  add_bench_command(app, context);
  add_plan_command(app, context);
  add_config_command(app, context);
  add_compare_command(app, context);
  add_report_command(app, context);
  add_export_metrics_command(app, context);
  add_sweep_command(app, context);
  add_checkpoint_command(app, context);
  add_export_command(app, context);
}

// The command that the line got to: the deepest subcommand named in it.
const CLI::App& reached(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? app : reached(*chosen.front());
}

std::string full_name(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name() : full_name(*app.get_parent()) + " " + app.get_name();
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  return names;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

// What is wrong with an argument that nothing takes.
std::string unexpected(const CLI::App& command, const std::string& argument) {
  const std::string name = argument.substr(0, argument.find('='));
  if (name.starts_with("-")) {
    const std::string nearest = core::nearest(name, option_names(command));
    return fmt::format("unknown option '{}'; the nearest is '{}'", name, nearest);
  }
  const std::vector<std::string> commands = command_names(command);
  if (commands.empty()) return fmt::format("unexpected argument '{}'", argument);
  return fmt::format("unknown command '{}'; the nearest is '{}', valid commands are {}", argument,
                     core::nearest(argument, commands), joined(commands));
}

std::string usage_problem(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = reached(app);
  const std::vector<std::string> extra = command.remaining();
  if (!extra.empty()) return unexpected(command, extra.front());
  const bool is_missing = dynamic_cast<const CLI::RequiredError*>(&error) != nullptr;
  if (const std::vector<std::string> commands = command_names(command); is_missing && !commands.empty())
    return "a command is needed: " + joined(commands);
  return error.what();
}

template <class Value, class Range, class Read>
CLI::Option* add_number_option(CLI::App& command, const std::string& name, Value& value, const Range& valid,
                               const std::string& meaning, const Read& read) {
  const auto take = [name, &value, valid, read](const std::string& text) {
    const auto [parsed, problem] = read(text, valid);
    if (!parsed) throw CLI::ValidationError(name, problem);
    value = *parsed;
  };
  return command
      .add_option_function<std::string>(name, take, fmt::format("{} ({})", meaning, core::config::describe_valid(valid)))
      ->default_str(fmt::format("{}", value))
      ->type_name("N");
}

}  // namespace

void add_config_arguments(CLI::App& command, ConfigArguments& arguments, bool file_required) {
  CLI::Option* file = command.add_option("CONFIG", arguments.file, "YAML file of the run");
  if (file_required) file->required();
  command.add_option("--set", arguments.overrides, "Overrides a value: section.key=value (repeatable)")
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false)
      ->type_name("KEY=VALUE");
}

CLI::Option* add_integer_option(CLI::App& command, const std::string& name, std::int64_t& value, core::IntegerRange valid,
                                const std::string& meaning) {
  return add_number_option(command, name, value, valid, meaning, core::config::read_integer);
}

CLI::Option* add_real_option(CLI::App& command, const std::string& name, double& value, core::RealRange valid,
                             const std::string& meaning) {
  return add_number_option(command, name, value, valid, meaning, core::config::read_real);
}

void add_threads_option(CLI::App& command, std::int64_t& threads) {
  add_integer_option(command, "--threads", threads, kThreads, "Threads; 0 for all that this process may keep busy");
}

ProgressOptions progress_options(Session& session, std::FILE* out) {
  ProgressOptions options = progress_options_for(out);
  if (session.mpi() != nullptr) options.terminal = options.terminal && std::getenv("MUONP_TERMINAL") != nullptr;
  return options;
}

std::optional<int> parse_command_line(int argc, char** argv, Context& context) {
  CLI::App app("Sharded training with fractional spectral powers of momentum (Muon^p)");
  build(app, context);
  const bool speaks = launched_as().rank == 0;  // before MPI is there, all ranks read the same line
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help_or_version) {
    return speaks ? app.exit(help_or_version) : 0;
  } catch (const CLI::ParseError& error) {
    const std::string name = full_name(reached(app)), problem = usage_problem(app, error);
    const std::string where = name == app.get_name() ? "" : name + ": ";
    if (speaks) fmt::print(stderr, "muonp: error: {}{}; see '{} --help'\n", where, problem, name);
    return kStatusUsage;
  }
  return std::nullopt;
}

}  // namespace muonp::launch
