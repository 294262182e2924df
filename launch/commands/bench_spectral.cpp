// muonp bench spectral: the report around launch/bench/spectral_benchmark.h.
#include <CLI/CLI.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/units.h"
#include "launch/bench/spectral_benchmark.h"
#include "launch/commands/bench_command.h"
#include "launch/report/table.h"

namespace muonp::launch {
namespace {

using optim::spectral::Exponent;
using optim::spectral::SpectralOptions;
using Json = nlohmann::ordered_json;

constexpr const char* kFooter =
    "The matrix has random singular vectors and singular values from 1 down to EPS. All methods run in turn "
    "in one\n"
    "process, with a plain matrix product between them; ratios are medians of neighbouring runs. A method is "
    "NAME or\n"
    "NAME@P; those that know p = 0 only, all with newton_schulz in their names and polar_express, are compared "
    "at 0 if\n"
    "no other P is given. Several storages run every method in each of them. gram_newton_schulz and\n"
    "symmetric_newton_schulz5 are Muon's five steps with symmetric products, A formed once more, or in every "
    "step.\n"
    "--dry runs nothing, and needs no GPU for its storages: it prints degrees of the steps' polynomials, the "
    "steps\n"
    "after which the Gram matrix is rebuilt, whether T is kept on the small side over rebuilds, products in "
    "those of\n"
    "n x n matrices, n = min(ROWS, COLS), symmetric ones counted half, and the predicted worst error of "
    "sigma^p.\n"
    "Examples:\n"
    "  muonp bench spectral --rows 1024 --cols 1024 --p 1/2 --threads 1 --compare newton_schulz5\n"
    "  muonp bench spectral --rows 4096 --cols 1024 --p 1/2 --method coupled_minimax,svd --json\n"
    "  muonp bench spectral --device cuda --rows 4096 --cols 4096 --p 1/3 --dtype float32,tf32,float16,bfloat16\n"
    "  muonp bench spectral --dry --dtype float16 --rows 4096 --cols 1024 --p 1/2 --eps 1e-2 --json";

struct Arguments {
  SpectralBenchmark benchmark;
  std::vector<std::string> methods = {"coupled_minimax"};
  std::vector<std::string> compare;
  std::string p = "1/2", device = "auto";
  std::vector<std::string> dtypes = {"auto"};
  SpectralOptions common;
  std::int64_t threads = 0, seed = 1;
  bool json = false, dry = false;
};

// "NAME" or "NAME@P". `compared`: a method that knows p = 0 only is taken at 0.
SpectralOptions parse_method(const std::string& text, const SpectralOptions& common, bool compared) {
  SpectralOptions options = common;
  const std::size_t at = text.find('@');
  options.method = text.substr(0, at);
  if (at != std::string::npos)
    options.p = optim::spectral::parse_exponent(text.substr(at + 1));
  else if (compared && optim::spectral::is_polar_only(options.method))
    options.p = Exponent{0, 1};
  return options;
}

void complete(Arguments& a, core::DeviceKind device) {
  a.common.p = optim::spectral::parse_exponent(a.p);
  auto& candidates = a.benchmark.candidates;
  const auto add = [&](const std::string& method, bool compared) {
    SpectralOptions options = parse_method(method, a.common, compared);
    for (const std::string& dtype : a.dtypes) {
      options.dtype = optim::spectral::parse_storage(dtype, options.method, device);
      candidates.push_back(options);
    }
  };
  const SpectralOptions first = parse_method(a.methods.front(), a.common, false);
  const core::Dtype storage = optim::spectral::parse_storage(a.dtypes.front(), first.method, device);
  a.common.epsilon = optim::spectral::epsilon_or_default(a.common.epsilon, first.p, storage);
  for (const std::string& method : a.methods) add(method, !candidates.empty());
  if (!a.compare.empty()) a.benchmark.baseline = candidates.size();
  for (const std::string& method : a.compare) add(method, true);
}

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json as_json(const SpectralMeasurement& m) {
  return {{"method", m.options.method},
          {"p", optim::spectral::to_string(m.options.p)},
          {"dtype", core::name_of(m.options.dtype)},
          {"epsilon", m.options.epsilon},
          {"tolerance", m.options.tolerance},
          {"seconds_median", m.seconds_median},
          {"seconds_min", m.seconds_min},
          {"ratio", m.ratio},
          {"flops", m.report.flops},
          {"gflops", m.gflops()},
          {"gemm_gflops", m.gemm_gflops},
          {"gemm_fraction", m.gflops() / m.gemm_gflops},
          {"steps", m.report.steps},
          {"restarts", m.report.restarts},
          {"scale", m.report.scale.at(0)},
          {"predicted_error", number(m.report.predicted_error)},
          {"relative_error_max", number(m.relative_error_max)},
          {"relative_error_max_scaled", number(m.relative_error_scaled)},
          {"relative_error_frobenius", number(m.relative_error_frobenius)}};
}

std::string as_json(const Arguments& a, int threads, const SpectralBenchmarkResult& result) {
  Json object = {
      {"rows", a.benchmark.rows}, {"cols", a.benchmark.cols}, {"threads", threads}, {"repeats", a.benchmark.repeats}};
  object.update(as_json(result.measurements.front()));
  if (result.measurements.size() > 1) {
    object["ratio_to"] = result.measurements[a.benchmark.baseline].options.method;
    for (std::size_t i = 1; i < result.measurements.size(); ++i) object["others"].push_back(as_json(result.measurements[i]));
  }
  return object.dump(2);
}

std::string error_cell(double value) { return std::isfinite(value) ? fmt::format("{:.2g}", value) : "-"; }

std::string as_table(const Arguments& a, const std::string& device, const SpectralBenchmarkResult& result) {
  constexpr Align right = Align::right;
  const std::string errors = a.benchmark.errors ? fmt::format(", errors for sigma in [{}, 1]", a.common.epsilon) : "";
  Table table({"method", "p", "storage", "steps", "median", "fastest", "ratio", "Gflop", "Gflop/s", "of product",
               "worst error", "Frobenius"},
              {Align::left, right, Align::left, right, right, right, right, right, right, right, right, right});
  table.caption(
      fmt::format("{} x {} on {}, {} repeats{}", a.benchmark.rows, a.benchmark.cols, device, a.benchmark.repeats, errors));
  for (const SpectralMeasurement& m : result.measurements)
    table.add({m.options.method, optim::spectral::to_string(m.options.p), std::string(core::name_of(m.options.dtype)),
               fmt::format("{}", m.report.steps), core::format_duration(m.seconds_median),
               core::format_duration(m.seconds_min), fmt::format("{:.3f}", m.ratio),
               fmt::format("{:.2f}", m.report.flops * 1e-9), fmt::format("{:.1f}", m.gflops()),
               core::format_percent(m.gflops() / m.gemm_gflops), error_cell(m.relative_error_max),
               error_cell(m.relative_error_frobenius)});
  table.rule();
  for (const ProductMeasurement& p : result.products)
    table.add({"plain product", "", std::string(core::name_of(p.dtype)), "", core::format_duration(p.seconds), "", "", "",
               fmt::format("{:.1f}", p.gflops), "", "", ""});
  return table.render();
}

// ---- --dry ----

struct Planned {
  SpectralOptions options;
  optim::spectral::SpectralPlan plan;
};

Json as_json(const Planned& planned) {
  const auto& [options, plan] = planned;
  return {{"method", options.method},
          {"p", optim::spectral::to_string(options.p)},
          {"dtype", core::name_of(options.dtype)},
          {"epsilon", options.epsilon},
          {"tolerance", options.tolerance},
          {"degrees", plan.degrees},
          {"rebuilds", plan.rebuilds},
          {"keep_t", plan.keep_t},
          {"products", plan.products},
          {"predicted_error", number(plan.predicted_error)}};
}

std::string as_json(const SpectralBenchmark& benchmark, const std::vector<Planned>& planned) {
  Json object = {{"rows", benchmark.rows}, {"cols", benchmark.cols}};
  object.update(as_json(planned.front()));
  for (std::size_t i = 1; i < planned.size(); ++i) object["others"].push_back(as_json(planned[i]));
  return object.dump(2);
}

std::string as_table(const SpectralBenchmark& benchmark, const std::vector<Planned>& planned) {
  constexpr Align right = Align::right;
  Table table({"method", "p", "storage", "degrees", "rebuilds after", "T kept", "products", "predicted error"},
              {Align::left, right, Align::left, right, right, right, right, right});
  table.caption(fmt::format("{} x {}, planned", benchmark.rows, benchmark.cols));
  for (const auto& [options, plan] : planned)
    table.add({options.method, optim::spectral::to_string(options.p), std::string(core::name_of(options.dtype)),
               fmt::format("{}", fmt::join(plan.degrees, ",")), fmt::format("{}", fmt::join(plan.rebuilds, ",")),
               plan.keep_t ? "yes" : "no", fmt::format("{:.1f}", plan.products), error_cell(plan.predicted_error)});
  return table.render();
}

int run_dry(Session& session, Arguments a) {
  complete(a, core::DeviceKind::cuda);  // which knows every storage
  std::vector<Planned> planned;
  for (const SpectralOptions& options : a.benchmark.candidates)
    planned.push_back({options, make_spectral_power(options)->plan(a.benchmark.rows, a.benchmark.cols)});
  session.log().info("{}", a.json ? as_json(a.benchmark, planned) : as_table(a.benchmark, planned));
  return 0;
}

int run(Session& session, Arguments a) {
  if (a.dry) return run_dry(session, std::move(a));
  complete(a, session.device().kind());
  const SpectralBenchmarkResult result = run_spectral_benchmark(session, a.benchmark);
  session.log().info("{}", a.json ? as_json(a, session.threads(), result) : as_table(a, session.device().name(), result));
  return 0;
}

}  // namespace

void add_bench_spectral_command(CLI::App& bench, Context& context) {
  CLI::App* command = bench.add_subcommand("spectral", "Time and error of the spectral power");
  auto a = std::make_shared<Arguments>();
  a->common.epsilon = 0;
  command->footer(kFooter);
  constexpr core::IntegerRange kSides{.min = 1, .max = 65536};
  add_integer_option(*command, "--rows", a->benchmark.rows, kSides, "Rows of the matrix");
  add_integer_option(*command, "--cols", a->benchmark.cols, kSides, "Columns of the matrix");
  command->add_option("--p", a->p, "Exponent")->capture_default_str();
  command->add_option("--method", a->methods, "Method, or several")
      ->delimiter(',')
      ->capture_default_str()
      ->type_name("NAME[@P]");
  command->add_option("--compare", a->compare, "Methods to compare with; ratios are to the first of them")
      ->delimiter(',')
      ->type_name("NAME[@P]");
  add_threads_option(*command, a->threads);
  add_integer_option(*command, "--repeats", a->benchmark.repeats, kRepeats, "Measured runs of each");
  add_real_option(*command, "--eps", a->common.epsilon, kEpsilons,
                  "Smallest singular value that is exact; 0: as optimizer.matrices.epsilon has it for the first method");
  add_real_option(*command, "--tolerance", a->common.tolerance, kSpectralErrors, "Relative error to design for");
  command->add_option("--device", a->device, "auto, cpu or cuda")->capture_default_str();
  command->add_option("--dtype", a->dtypes, "Storage of the iterates, or several: auto, float32, tf32, float16, bfloat16")
      ->delimiter(',')
      ->capture_default_str();
  add_integer_option(*command, "--seed", a->seed, kSeeds, "Key of the random matrix");
  command->add_flag("!--no-errors", a->benchmark.errors,
                    "Times alone, of a Gaussian matrix; the comparison with float64 takes minutes above 4096 x 4096");
  command->add_flag("--dry", a->dry, "Schedule, products and predicted error, without running; auto is a GPU's storage");
  command->add_flag("--json", a->json, "Report as JSON");
  command->callback([a, &context] {
    context.session.device = a->device;
    a->benchmark.seed = static_cast<std::uint64_t>(a->seed);
    context.session.threads = a->threads;
    context.run = [a](Session& session) { return run(session, *a); };
  });
}

}  // namespace muonp::launch
