// muonp export: a run's weights as a folder that transformers opens.
#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>

#include "core/base/units.h"
#include "launch/commands/cli.h"
#include "launch/program/signals.h"
#include "launch/report/progress.h"
#include "launch/train/folder_export.h"
#include "launch/train/trained_model.h"

namespace muonp::launch {
namespace {

constexpr const char* kAsRead = "as-read";
constexpr double kGigabyte = 1e9;

struct Arguments {
  std::string run, folder, checkpoint = "latest", dtype = kAsRead;
  double shard_size = 5;  // GB
  bool merge = false;
};

int run(Session& session, const Arguments& a) {
  const core::Checkpoint checkpoint = open_checkpoint(a.run, a.checkpoint);
  ExportOptions options;
  options.merge = a.merge;
  options.shard_bytes = std::llround(a.shard_size * kGigabyte);
  if (a.dtype != kAsRead) options.dtype = core::parse_dtype(a.dtype);
  std::unique_ptr<Progress> bar;
  const StopSignals signals;
  const ExportReport report =
      export_folder(a.run, checkpoint, a.folder, options, [&](std::int64_t done, std::int64_t total) {
        if (!bar) bar = std::make_unique<Progress>("elements", total, 0, progress_options_for(stderr));
        bar->update(done, "");
        require_no_stop(a.folder + " is as it was");
      });
  bar.reset();
  session.log().info("{}: the weights of step {}, {} tensors in {}, {} in {} file{}", a.folder, checkpoint.step(),
                     report.tensors, report.dtype, core::format_bytes(report.bytes), report.files,
                     report.files == 1 ? "" : "s");
  if (!report.tokenizer) session.log().info("The run has no tokenizer of its own that could go along.");
  return 0;
}

}  // namespace

void add_export_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("export", "A run's weights as a folder that transformers opens");
  const auto a = std::make_shared<Arguments>();
  command->add_option("RUN", a->run, "Folder of the run, <run.dir>/<run.name>")->required();
  command->add_option("FOLDER", a->folder, "Folder to make; one that is there has to be empty")->required();
  command->add_option("--checkpoint", a->checkpoint, "latest, a step, or a checkpoint's folder")->capture_default_str();
  command
      ->add_option("--dtype", a->dtype,
                   "Type of the weights; as-read: of each tensor as in the folder that the run started from")
      ->check(CLI::IsMember({"as-read", "float32", "bfloat16", "float16"}))
      ->capture_default_str();
  add_real_option(*command, "--shard-size", a->shard_size, {.min = 1e-6, .max = 1e6}, "Largest file of weights [GB]");
  command->add_flag(
      "--merge", a->merge,
      "Of a run with model.lora: the whole model with the adapters added, which needs the folder that it started "
      "from");
  command->footer(
      "Writes config.json, model.safetensors or shards with their index, and the tokenizer's and chat template's\n"
      "files that the run kept. Of a run with model.lora, the adapters in PEFT's files, or the merged model. The\n"
      "folder appears when it is complete.\n"
      "Examples:\n"
      "  muonp export runs/finetune finetuned\n"
      "  muonp export runs/finetune finetuned --checkpoint 400 --dtype bfloat16 --shard-size 2\n"
      "  python -c 'from transformers import pipeline; print(pipeline(\"text-generation\", \"finetuned\")(\"Once\"))'");
  command->callback([a, &context] {
    context.session.device = "cpu";
    context.session.threads = 1;
    context.run = [a](Session& session) { return run(session, *a); };
  });
}

}  // namespace muonp::launch
