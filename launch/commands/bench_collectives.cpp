// muonp bench collectives: the report around launch/bench/collectives_benchmark.h.
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "dist/comm/agreement.h"
#include "dist/comm/thread.h"
#include "launch/bench/collectives_benchmark.h"
#include "launch/commands/bench_command.h"
#include "launch/report/table.h"

namespace muonp::launch {

namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  std::vector<std::string> operations, types = {"float32"};
  std::int64_t least = 8, most = 16 << 20, factor = 2, rank_threads = 0, threads = 0;
  double seconds = 0.2;
  bool json = false;
};

std::vector<CollectiveCase> cases_of(const Arguments& a) {
  static constexpr std::string_view kTypes[] = {"float32", "bfloat16", "float16"};
  std::vector<core::Dtype> types;
  for (const std::string& type : a.types) {
    if (std::ranges::find(kTypes, type) == std::end(kTypes))
      core::fail("--types: {} is none; valid are {}", type, fmt::join(kTypes, ", "));
    types.push_back(core::parse_dtype(type));
  }
  std::vector<CollectiveCase> cases = all_collectives(types, a.least, a.most, a.factor);
  std::vector<std::string> known;
  for (const CollectiveCase& c : cases)
    if (const std::string name(dist::name_of(c.kind)); std::ranges::find(known, name) == known.end()) known.push_back(name);
  for (const std::string& operation : a.operations)
    if (std::ranges::find(known, operation) == known.end())
      core::fail("--operations: {} is none; valid are {}", operation, fmt::join(known, ", "));
  std::erase_if(cases, [&](const CollectiveCase& c) {
    return !a.operations.empty() && std::ranges::find(a.operations, dist::name_of(c.kind)) == a.operations.end();
  });
  return cases;
}

std::string_view type_of(const CollectiveCase& c) {
  switch (c.kind) {
    case dist::OperationKind::barrier:
      return "";
    case dist::OperationKind::all_reduce_values:
      return "float64";
    default:
      return core::name_of(c.dtype);
  }
}

std::string_view reduction_of(const CollectiveCase& c) {
  const bool reduces = c.kind == dist::OperationKind::all_reduce || c.kind == dist::OperationKind::all_reduce_values ||
                       c.kind == dist::OperationKind::reduce_scatter;
  return reduces ? dist::name_of(c.reduce) : "";
}

std::string as_table(const std::vector<CollectiveResult>& results, const std::string& ranks, int n) {
  Table table({"operation", "size (B)", "count", "type", "redop", "place", "time (us)", "quartiles", "algbw (GB/s)",
               "busbw (GB/s)", "#wrong"},
              {Align::left, Align::right, Align::right, Align::left, Align::left, Align::left, Align::right, Align::right,
               Align::right, Align::right, Align::right});
  table.caption(ranks);
  for (const CollectiveResult& r : results) {
    const auto us = [](double seconds) { return fmt::format("{:.2f}", seconds * 1e6); };
    const auto bandwidth = [&](double b) { return r.bytes > 0 ? fmt::format("{:.3f}", b * 1e-9) : std::string(); };
    table.add({std::string(dist::name_of(r.what.kind)), std::to_string(r.bytes), std::to_string(r.count),
               std::string(type_of(r.what)), std::string(reduction_of(r.what)), r.in_place ? "in" : "out",
               us(r.timing.median), us(r.timing.lower) + "-" + us(r.timing.upper), bandwidth(r.algorithm_bandwidth()),
               bandwidth(r.bus_bandwidth(n)), std::to_string(r.wrong)});
  }
  return table.render();
}

Json as_json(const std::vector<CollectiveResult>& results, const std::string& ranks, int n) {
  Json rows = Json::array();
  for (const CollectiveResult& r : results)
    rows.push_back({{"operation", dist::name_of(r.what.kind)},
                    {"bytes", r.bytes},
                    {"count", r.count},
                    {"type", type_of(r.what)},
                    {"reduction", reduction_of(r.what)},
                    {"in_place", r.in_place},
                    {"seconds_median", r.timing.median},
                    {"seconds_lower_quartile", r.timing.lower},
                    {"seconds_upper_quartile", r.timing.upper},
                    {"repeats", r.timing.repeats},
                    {"algorithm_bytes_per_second", r.bytes > 0 ? Json(r.algorithm_bandwidth()) : Json(nullptr)},
                    {"bus_bytes_per_second", r.bytes > 0 ? Json(r.bus_bandwidth(n)) : Json(nullptr)},
                    {"wrong", r.wrong}});
  return {{"communicator", ranks}, {"ranks", n}, {"results", rows}};
}

// Wrong results are an error, after they are shown.
int show(Session& session, const Arguments& a, const std::vector<CollectiveResult>& results, const std::string& ranks,
         int n) {
  if (session.rank() == 0)
    session.log().info("{}", a.json ? as_json(results, ranks, n).dump(2) : as_table(results, ranks, n));
  std::int64_t wrong = 0;
  for (const CollectiveResult& r : results) wrong += r.wrong;
  if (wrong > 0) throw dist::AgreedError(fmt::format("{} results of collectives are wrong", wrong));
  return 0;
}

std::vector<CollectiveResult> measure(dist::Communicator& communicator, core::Device& device, const Arguments& a) {
  std::vector<CollectiveResult> results;
  for (const CollectiveCase& what : cases_of(a)) results.push_back(run_collective(communicator, device, what, a.seconds));
  return results;
}

// Ranks that are threads of this process, each with a device of one thread.
int run_threads(Session& session, const Arguments& a) {
  const int n = static_cast<int>(a.rank_threads);
  std::vector<CollectiveResult> results;
  dist::run_ranks(n, [&](dist::Communicator& communicator) {
    const auto device = core::make_cpu_device(1);
    std::vector<CollectiveResult> mine = measure(communicator, *device, a);
    if (communicator.rank() == 0) results = std::move(mine);
  });
  return show(session, a, results, fmt::format("{} ranks as threads of one process", n), n);
}

int run(Session& session, const Arguments& a) {
  if (a.rank_threads > 0) return run_threads(session, a);
  dist::Communicator& communicator = session.communicator();
  return show(session, a, measure(communicator, session.device(), a), communicator.description(), communicator.size());
}

constexpr const char* kFooter =
    "Each operation runs on memory with known contents, once unmeasured and then as often as goes into --seconds; the time "
    "is\n"
    "that of the slowest rank, the median and the quartiles. algbw = size / time; busbw as nccl-tests has it\n"
    "(docs/benchmarks.md). #wrong counts elements, of all ranks, before and after. Without mpirun there is one rank.\n"
    "Examples:\n"
    "  mpirun -np 2 muonp bench collectives\n"
    "  muonp bench collectives --rank-threads 4 --types float32,bfloat16 --operations all_reduce,exchange --json";

}  // namespace

void add_bench_collectives_command(CLI::App& bench, Context& context) {
  CLI::App* command =
      bench.add_subcommand("collectives", "Every operation between ranks: time, bandwidth, and whether it is right");
  auto a = std::make_shared<Arguments>();
  constexpr core::IntegerRange bytes{.min = 1, .max = std::int64_t{1} << 34};
  command->add_option("--operations", a->operations, "Those to measure; all of them by default")
      ->delimiter(',')
      ->type_name("NAME,...");
  command->add_option("--types", a->types, "float32, bfloat16, float16")->delimiter(',')->type_name("TYPE,...");
  add_integer_option(*command, "--least", a->least, bytes, "Bytes of the smallest span");
  add_integer_option(*command, "--most", a->most, bytes, "Bytes of the largest span");
  add_integer_option(*command, "--factor", a->factor, {.min = 2, .max = 1 << 20}, "From one size to the next");
  add_integer_option(*command, "--rank-threads", a->rank_threads, {.min = 0, .max = 256},
                     "Ranks as threads of this process, so many; 0: processes, as mpirun started them");
  add_real_option(*command, "--seconds", a->seconds, {.min = 0, .max = 600}, "For each operation and size");
  add_threads_option(*command, a->threads);
  command->add_flag("--json", a->json, "Print a JSON object");
  command->footer(kFooter);
  command->callback([a, &context] {
    context.session.threads = a->threads;
    context.session.ranks = a->rank_threads == 0;
    context.session.alike = {{"the command", "bench collectives"},
                             {"--operations", fmt::format("{}", fmt::join(a->operations, ","))},
                             {"--types", fmt::format("{}", fmt::join(a->types, ","))},
                             {"--least", std::to_string(a->least)},
                             {"--most", std::to_string(a->most)},
                             {"--factor", std::to_string(a->factor)}};
    context.run = [a](Session& session) { return run(session, *a); };
  });
}

}  // namespace muonp::launch
