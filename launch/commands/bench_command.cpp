#include "launch/commands/bench_command.h"

#include <CLI/CLI.hpp>

#include "core/files/files.h"
#include "dist/comm/agreement.h"
#include "launch/bench/cluster_file.h"
#include "launch/bench/cluster_measurement.h"

namespace muonp::launch {

namespace {

struct Arguments {
  std::string file;
  ClusterMeasurement measurement;
  std::int64_t threads = 0;
};

// What the file says of other numbers of ranks is kept; every rank reads it.
int write_cluster(Session& session, const Arguments& a) {
  std::optional<dist::Cluster> known;
  dist::run_on_all(session.communicator(), [&] {
    if (core::exists(a.file)) known = read_cluster(a.file);
  });
  const dist::Cluster cluster = measure_cluster(session, a.measurement, std::move(known));
  dist::run_on_all(session.communicator(), [&] {
    if (session.rank() == 0) core::write_file(a.file, cluster_text(cluster));
  });
  session.log().info("{}: rates of {} rank{} on a host", a.file, session.local_size(), session.local_size() == 1 ? "" : "s");
  return 0;
}

void add_write_cluster(CLI::App& bench, const std::shared_ptr<Arguments>& a, Context& context) {
  CLI::Option* file =
      bench
          .add_option("--write-cluster", a->file, "Measure this machine, at this number of ranks, for muonp plan --cluster")
          ->type_name("FILE");
  bench.add_option("--name", a->measurement.name, "Of the cluster; by default the host's")->needs(file);
  add_real_option(bench, "--memory-gib", a->measurement.memory_gib, {.min = 0}, "Of a GPU, or of a CPU's host; 0: all of it")
      ->needs(file);
  add_integer_option(bench, "--largest", a->measurement.largest, {.min = 128, .max = 65536}, "Side of the largest product")
      ->needs(file);
  add_real_option(bench, "--seconds", a->measurement.budget_seconds, {.min = 0, .max = 60}, "For each rate")->needs(file);
  add_threads_option(bench, a->threads);
  bench.callback([a, &bench, &context] {
    const bool alone = bench.get_subcommands().empty();
    if (!alone && !a->file.empty())
      throw CLI::ValidationError("--write-cluster", "stands alone, without a command of bench");
    if (!alone) return;
    if (a->file.empty()) throw CLI::RequiredError("A command, or --write-cluster,");
    context.session.threads = a->threads;
    context.session.ranks = true;
    context.session.alike = {{"the command", "bench --write-cluster"},
                             {"--largest", std::to_string(a->measurement.largest)}};
    context.run = [a](Session& session) { return write_cluster(session, *a); };
  });
}

}  // namespace

void add_bench_command(CLI::App& app, Context& context) {
  CLI::App* bench =
      app.add_subcommand("bench", "Measure speed: of spectral powers, training steps, collectives, this machine");
  bench->require_subcommand(0, 1);
  bench->footer(
      "Examples:\n"
      "  muonp bench spectral --rows 1024 --cols 1024 --p 1/2 --compare newton_schulz5\n"
      "  muonp bench step configs/quickstart.yaml --json\n"
      "  mpirun -np 2 muonp bench collectives --most 1e6\n"
      "  mpirun -np 2 muonp bench --write-cluster cluster.yaml");
  add_bench_spectral_command(*bench, context);
  add_bench_step_command(*bench, context);
  add_bench_collectives_command(*bench, context);
  add_bench_checkpoint_command(*bench, context);
  add_bench_scaling_command(*bench, context);
  add_write_cluster(*bench, std::make_shared<Arguments>(), context);
}

}  // namespace muonp::launch
