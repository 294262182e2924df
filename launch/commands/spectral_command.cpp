// muonp spectral: the kernel on a user's own matrix.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/units.h"
#include "core/files/npy.h"
#include "launch/bench/singular_system.h"
#include "launch/commands/cli.h"
#include "launch/report/table.h"
#include "optim/spectral/spectral_power.h"

namespace muonp::launch {
namespace {

using optim::spectral::SpectralOptions;
using optim::spectral::SpectralReport;

constexpr const char* kFooter =
    "Z = U S^p V^T of G = U S V^T, for each matrix of the file, [rows, cols] or [batch, rows, cols]. float16, float64,\n"
    "big-endian and Fortran order are converted to float32 in C order, which the report says; Z is always that. Singular "
    "values below\nEPS times the scale come out smaller than sigma^p.\n"
    "Examples:\n"
    "  muonp spectral --in G.npy --out Z.npy --p 1/2\n"
    "  muonp spectral --in G.npy --out Z.npy --p 0 --method newton_schulz5 --check --json";

struct Arguments {
  std::string in, out, p, dtype = "auto", device = "auto";
  SpectralOptions options;
  std::int64_t threads = 0;
  bool json = false, check = false;
};

struct Check {
  double worst = std::numeric_limits<double>::quiet_NaN();
  double frobenius = 0;
  std::int64_t counted = 0, values = 0;
};

struct Outcome {
  core::NpyArray z;
  SpectralReport report;
  double seconds = 0;
};

Outcome apply(Session& session, const SpectralOptions& options, core::NpyArray& g) {
  const auto power = optim::spectral::make_spectral_power(options);
  Outcome outcome{{g.shape, std::vector<float>(g.values.size())}, {}, 0};
  core::Device& device = session.device();
  const core::Tensor from = core::Tensor::empty(device, g.shape, core::Dtype::float32, core::Category::other);
  const core::Tensor to = core::Tensor::empty(device, g.shape, core::Dtype::float32, core::Category::other);
  device.queue().write(from.raw(), g.values.data(), from.bytes());
  device.queue().synchronize();
  const double start = core::seconds_now();
  outcome.report = power->apply(device, from, to);
  device.queue().synchronize();
  outcome.seconds = core::seconds_now() - start;
  device.queue().read(outcome.z.values.data(), to.raw(), to.bytes());
  return outcome;
}

Check check(const SpectralOptions& options, const core::NpyArray& g, const Outcome& outcome) {
  const std::size_t last = g.shape.size() - 1;
  const std::int64_t rows = g.shape[last - 1], cols = g.shape[last], size = rows * cols;
  Check result;
  for (std::size_t b = 0; b < outcome.report.scale.size(); ++b) {
    const std::int64_t offset = static_cast<std::int64_t>(b) * size;
    const SingularSystem system = singular_system_of(g.values.data() + offset, rows, cols);
    const SpectralErrors errors = measure_errors(system, outcome.z.values.data() + offset, options.p.value(),
                                                 options.epsilon * outcome.report.scale[b]);
    result.worst = std::fmax(result.worst, errors.worst);
    result.frobenius = std::max(result.frobenius, errors.frobenius);
    result.counted += errors.counted;
    result.values += system.size();
  }
  return result;
}

nlohmann::ordered_json number(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
}

std::string percent_or_unknown(double fraction) {
  return std::isfinite(fraction) ? fmt::format("{:.3g} %", fraction * 100) : "unknown";
}

std::string as_json(const Arguments& a, const core::NpyArray& g, const Outcome& outcome, const Check& checked) {
  const SpectralReport& report = outcome.report;
  nlohmann::ordered_json object = {{"in", a.in},
                                   {"out", a.out},
                                   {"converted_from", g.original},
                                   {"shape", g.shape},
                                   {"method", a.options.method},
                                   {"p", optim::spectral::to_string(a.options.p)},
                                   {"epsilon", a.options.epsilon},
                                   {"tolerance", a.options.tolerance},
                                   {"dtype", core::name_of(a.options.dtype)}};
  object["scale"] = g.shape.size() == 2 ? nlohmann::ordered_json(report.scale.at(0)) : nlohmann::ordered_json(report.scale);
  object["steps"] = report.steps;
  object["restarts"] = report.restarts;
  object["predicted_error"] = number(report.predicted_error);
  object["flops"] = report.flops;
  object["seconds"] = outcome.seconds;
  object["gflops"] = number(report.flops / outcome.seconds * 1e-9);
  if (a.check) {
    object["relative_error_max"] = number(checked.worst);
    object["relative_error_frobenius"] = number(checked.frobenius);
    object["singular_values"] = checked.values;
    object["singular_values_checked"] = checked.counted;
  }
  return object.dump(2);
}

std::string as_table(const Arguments& a, const core::NpyArray& g, const Outcome& outcome, const Check& checked) {
  const SpectralReport& report = outcome.report;
  const auto [low, high] = std::minmax_element(report.scale.begin(), report.scale.end());
  Table table({"", ""});
  table.caption(fmt::format("{}: {} {}", a.out, core::to_string(g.shape), core::name_of(a.options.dtype)));
  if (!g.original.empty()) table.add({"converted to float32, C order", fmt::format("{}: {}", a.in, g.original)});
  table.add({"exponent, method", fmt::format("{}, {}", optim::spectral::to_string(a.options.p), a.options.method)});
  table.add({"scale", *low == *high ? fmt::format("{:.6g}", *low) : fmt::format("{:.6g} to {:.6g}", *low, *high)});
  table.add({"steps, restarts", fmt::format("{}, {}", report.steps, report.restarts)});
  table.add({"predicted error", percent_or_unknown(report.predicted_error)});
  table.add({"work", fmt::format("{:.3g} Gflop in {}, {:.3g} Gflop/s", report.flops * 1e-9,
                                 core::format_duration(outcome.seconds), report.flops * 1e-9 / outcome.seconds)});
  if (a.check) {
    table.rule();
    table.add({"worst error of a singular value",
               fmt::format("{}, of {} of {} that are at least eps times the scale", percent_or_unknown(checked.worst),
                           checked.counted, checked.values)});
    table.add({"relative Frobenius error", percent_or_unknown(checked.frobenius)});
  }
  return table.render();
}

int run(Session& session, Arguments a) {
  a.options.dtype = optim::spectral::parse_storage(a.dtype, a.options.method, session.device().kind());
  a.options.epsilon = optim::spectral::epsilon_or_default(a.options.epsilon, a.options.p, a.options.dtype);
  core::NpyArray g = core::read_npy(a.in);
  core::require_finite(g, a.in);
  const Outcome outcome = apply(session, a.options, g);
  core::write_npy(a.out, outcome.z);
  const Check checked = a.check ? check(a.options, g, outcome) : Check{};
  session.log().info("{}", a.json ? as_json(a, g, outcome, checked) : as_table(a, g, outcome, checked));
  return 0;
}

}  // namespace

void add_spectral_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("spectral", "Apply the spectral power to the matrices of a .npy file");
  auto a = std::make_shared<Arguments>();
  a->options.epsilon = 0;
  command->footer(kFooter);
  command->add_option("--in", a->in, "Matrix G, or a batch (.npy: float16, float32, float64)")
      ->required()
      ->type_name("FILE");
  command->add_option("--out", a->out, "Where Z goes (.npy, float32 in C order)")->required()->type_name("FILE");
  command->add_option("--p", a->p, "Exponent: a fraction in [-1/2, 1] or a decimal that is one")->required();
  std::string methods;
  for (const std::string_view method : optim::spectral::kMethods)
    methods += fmt::format("{}{}", methods.empty() ? "" : ", ", method);
  command->add_option("--method", a->options.method, "Recurrence: " + methods)->capture_default_str();
  add_real_option(*command, "--eps", a->options.epsilon, kEpsilons,
                  "Smallest singular value, relative to the scale, that is exact; 0: as optimizer.matrices.epsilon");
  add_real_option(*command, "--tolerance", a->options.tolerance, kSpectralErrors, "Relative error to design for");
  command->add_option("--dtype", a->dtype, "Storage of the iterates: auto, float32, tf32, float16, bfloat16")
      ->capture_default_str();
  command->add_option("--device", a->device, "auto, cpu or cuda")->capture_default_str();
  add_threads_option(*command, a->threads);
  command->add_flag("--json", a->json, "Report as JSON");
  command->add_flag("--check", a->check, "Measure the error against a singular value decomposition in float64");
  command->callback([a, &context] {
    a->options.p = optim::spectral::parse_exponent(a->p);
    context.session.device = a->device;
    context.session.threads = a->threads;
    context.run = [a](Session& session) { return run(session, *a); };
  });
}

}  // namespace muonp::launch
