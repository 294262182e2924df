// muonp eval: the loss of a run's model on a text.
#include <CLI/CLI.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/units.h"
#include "core/data/dataset.h"
#include "core/device/host_view.h"
#include "launch/commands/cli.h"
#include "launch/program/signals.h"
#include "launch/report/table.h"
#include "launch/train/run_reading.h"
#include "launch/train/trained_model.h"

namespace muonp::launch {
namespace {

using core::Tensor;

struct Arguments {
  std::string run, checkpoint = "latest", data;
  std::int64_t batches = 0, threads = 0;
  bool json = false, skip_bad = false;
};

// The validation part of the run's own data, or all of other data.
std::unique_ptr<core::ValidationBatches> data_of(Session& session, const Arguments& a, const TrainedModel& trained) {
  core::DataConfig data = trained.config.data;
  if (!a.data.empty()) {
    data.train = data.validation = a.data;
    data.mix.clear();
  }
  data.skip_bad = data.skip_bad || a.skip_bad;
  const core::Dataset dataset = [&] {
    const StopSignals signals;  // the text may be long, and its tokens must not stay in the folder for temporary files
    core::Dataset read = read_dataset(data, a.run, trained.config.model.vocabulary(), [] { require_no_stop(); });
    require_no_stop();
    return read;
  }();
  if (!a.data.empty()) return core::make_validation_batches(dataset, data);
  constexpr std::string_view kCompared[] = {"data.train", "data.validation*"};
  for (const std::string& line : require_same_values(a.run, trained.identity, data_identity(data, dataset), kCompared,
                                                     "--data evaluates on data that the run was not trained with"))
    session.log().warn("{}", line);
  if (!dataset.has_validation()) core::fail("{} was trained without validation data; name some with --data", a.run);
  return core::make_validation_batches(dataset, data);
}

struct Evaluated {
  double loss = 0;           // mean over the counted targets
  std::int64_t counted = 0;  // these
};

Evaluated evaluate(core::Device& device, const TrainedModel& trained, const core::ValidationBatches& data,
                   std::int64_t sequences) {
  const std::int64_t time = data.sequence(), most = trained.config.data.batch;
  const auto span = [](const Tensor& ids) { return ids ? ids.span<std::int32_t>() : std::span<std::int32_t>(); };
  double sum = 0;
  std::int64_t counted = 0;
  for (std::int64_t first = 0; first < sequences; first += most) {
    const std::int64_t rows = std::min(most, sequences - first);
    const auto ids = [&] { return Tensor::on_host({rows, time}, core::Dtype::int32); };
    const models::TokenBatch batch{ids(), ids(), data.packed() ? ids() : Tensor()};
    data.fill_batch(first, rows, {span(batch.inputs), span(batch.targets), span(batch.begins)});
    core::Tape tape(device, false);
    const auto loss = static_cast<double>(core::read_scalar(tape.queue(), trained.model->loss(tape, batch, {})->value));
    const std::int64_t here = core::counted_targets(span(batch.targets));
    sum += static_cast<double>(here) / static_cast<double>(time) * loss;
    counted += here;
  }
  return {plain_nan(sum / (static_cast<double>(counted) / static_cast<double>(time))), counted};
}

int run(Session& session, const Arguments& a) {
  const TrainedModel trained = load_trained_model(session, a.run, a.checkpoint);
  const std::unique_ptr<core::ValidationBatches> data = data_of(session, a, trained);
  std::int64_t sequences = data->sequences();
  if (a.batches > 0) sequences = std::min(sequences, a.batches * trained.config.data.batch);
  const auto [loss, tokens] = evaluate(session.device(), trained, *data, sequences);
  if (a.json) {
    session.log().info(
        "{}",
        nlohmann::ordered_json{
            {"run", a.run}, {"step", trained.step}, {"loss", loss}, {"perplexity", std::exp(loss)}, {"tokens", tokens}}
            .dump(2));
    return 0;
  }
  Table table({"run", "step", "tokens", "loss", "perplexity"},
              {Align::left, Align::right, Align::right, Align::right, Align::right});
  table.add({a.run, std::to_string(trained.step), format_count(static_cast<double>(tokens)), fmt::format("{:.4f}", loss),
             fmt::format("{:.3f}", std::exp(loss))});
  session.log().info("{}", table.render());
  return 0;
}

}  // namespace

void add_eval_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("eval", "Loss of a trained model on its validation text, or on another");
  auto a = std::make_shared<Arguments>();
  command->add_option("RUN", a->run, "Folder of the run (<run.dir>/<run.name>)")->required();
  command
      ->add_option("--checkpoint", a->checkpoint,
                   "latest, a step, a checkpoint's folder, or a file from `muonp checkpoint export`")
      ->capture_default_str();
  command->add_option("--data", a->data,
                      "Text, token file or JSONL file to evaluate on instead of the run's validation data");
  command->add_flag("--skip-bad", a->skip_bad, "Leave lines of JSONL out that are no valid example (data.skip_bad)");
  add_integer_option(*command, "--batches", a->batches, {.min = 0, .max = 1 << 30},
                     "Batches of the run's data.batch sequences; 0 for all");
  add_threads_option(*command, a->threads);
  command->add_flag("--json", a->json, "Print a JSON object");
  command->footer(
      "Examples:\n"
      "  muonp eval runs/quickstart-p-1-2\n"
      "  muonp eval runs/quickstart-p-1-2 --checkpoint 200 --data other.txt --json");
  command->callback([a, &context] {
    context.session.threads = a->threads;
    context.run = [a](Session& session) { return run(session, *a); };
  });
}

}  // namespace muonp::launch
