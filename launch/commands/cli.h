// The command line of the muonp program. Each subcommand's file adds it with its options; its callback, which
// runs while the line is parsed, says in the Context what session it needs and what to do with it. main does
// the rest.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/config/config.h"
#include "launch/program/session.h"
#include "launch/report/progress.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace muonp::launch {

// Exit statuses (docs/errors.md).
inline constexpr int kStatusError = 1;       // bad input or environment
inline constexpr int kStatusUsage = 2;       // bad command line
inline constexpr int kStatusInternal = 3;    // a defect of this program
inline constexpr int kStatusOfSignal = 128;  // and its number: asked to stop before there was a result

struct Context {
  SessionSettings session;
  std::function<int(Session&)> run;  // what the chosen subcommand does; the exit status
};

void add_train_command(CLI::App& app, Context& context);
void add_eval_command(CLI::App& app, Context& context);
void add_chat_command(CLI::App& app, Context& context);
void add_generate_command(CLI::App& app, Context& context);
void add_tokenize_command(CLI::App& app, Context& context);
void add_spectral_command(CLI::App& app, Context& context);
void add_bench_command(CLI::App& app, Context& context);
void add_plan_command(CLI::App& app, Context& context);
void add_config_command(CLI::App& app, Context& context);
void add_compare_command(CLI::App& app, Context& context);
void add_checkpoint_command(CLI::App& app, Context& context);
void add_sweep_command(CLI::App& app, Context& context);
void add_export_command(CLI::App& app, Context& context);
void add_report_command(CLI::App& app, Context& context);
void add_export_metrics_command(CLI::App& app, Context& context);

// CONFIG and --set section.key=value (repeatable), for subcommands that read a configuration.
struct ConfigArguments {
  std::string file;
  std::vector<std::string> overrides;
};
void add_config_arguments(CLI::App& command, ConfigArguments& arguments, bool file_required = true);

// Options that take a number, read as a key of the configuration is: decimal, nothing behind it, finite, within the range,
// which --help shows. The value that is there is the default.
CLI::Option* add_integer_option(CLI::App& command, const std::string& name, std::int64_t& value, core::IntegerRange valid,
                                const std::string& meaning);
CLI::Option* add_real_option(CLI::App& command, const std::string& name, double& value, core::RealRange valid,
                             const std::string& meaning);
// --threads, as parallel.threads.
void add_threads_option(CLI::App& command, std::int64_t& threads);
// As optimizer.matrices.tolerance and epsilon.
inline constexpr core::RealRange kSpectralErrors{.min = 1e-6, .max = 0.5}, kEpsilons{.min = 0, .max = 0.5};
// Keys of random numbers.
inline constexpr core::IntegerRange kSeeds{.min = 0};

// Of a bar on `out`, where MPI is not in the way: mpirun gives ranks a terminal of its own whatever its output goes to, and
// launch/mpirun.sh knows better.
ProgressOptions progress_options(Session& session, std::FILE* out);

// Parses the line into the context. Returns an exit status if there is nothing to run: help and version (0),
// a command line that is wrong (2; the message is printed). Errors of a subcommand's callback come out as
// they are.
std::optional<int> parse_command_line(int argc, char** argv, Context& context);

}  // namespace muonp::launch
