#include "launch/train/run_config.h"

#include <algorithm>
#include <array>
#include <set>

#include "core/base/error.h"
#include "launch/program/session.h"
#include "optim/plan/compression.h"

namespace muonp::launch {

using core::Fields;

void RunSection::describe(Fields& f) {
  f.text("name", name, "name of this run; its files go to <dir>/<name>");
  f.text("dir", dir, "folder that holds the runs");
  f.integer("steps", steps, {.min = 0}, "optimizer steps to train; 0 saves the weights that the run starts from [steps]");
  f.integer("seed", seed, {.min = 0}, "key of initial weights, sample order and dropout");
}

void ParallelSection::describe(Fields& f) {
  static constexpr std::array<std::string_view, 2> dtypes = {"float32", "bfloat16"};
  static constexpr std::array<std::string_view, 2> offloads = {"none", "optimizer"};
  static constexpr std::array<std::string_view, 3> owners_kinds = {"auto", "whole", "groups"};
  static constexpr std::array<std::string_view, 2> transports = {"nccl", "mpi"};
  f.integer("zero", zero, {.min = 0, .max = 3},
            "ZeRO stage: 0 keeps all on every rank, 1 shards optimizer state, 2 also gradients, 3 also weights");
  f.integer("threads", threads, kThreads,
            "threads per rank; 0 shares out to the ranks of a host what they may use of it (docs/running.md) [threads]");
  f.real("bucket_mib", bucket_mib, {.min = 0.001, .max = 65536},
         "size of a bucket of gradients and weights, as float32 [MiB]");
  f.real("wave_mib", wave_mib, {.min = 0, .max = 65536},
         "matrices an owner holds in one wave of the exchange; 0 is 512 for a single GPU, which has nothing to exchange and "
         "takes matrices of one shape together, else 64 [MiB]");
  f.choice(
      "owners", owners, owners_kinds,
      "of a matrix's update: whole gives it to one rank, groups lets ranks share it, auto does where that evens out their "
      "work (docs/parallelism.md)");
  f.boolean("overlap", overlap, "communicate on a thread of its own while the rank computes");
  f.integer("prefetch", prefetch, {.min = 0, .max = 1 << 20},
            "buckets of weights gathered ahead of their use; only used at stage 3 [buckets]");
  f.choice("offload", offload, offloads,
           "optimizer: a GPU keeps optimizer state and float32 masters in host memory; masters that are the weights "
           "themselves (compute: float32) stay on it");
  f.choice(
      "transport", transport, transports,
      "how ranks with GPUs talk: nccl, with a GPU for each rank, or mpi, through host memory, where ranks may share one");
  f.boolean("check", check, "compare operation, count and type over all ranks before each collective (slow)");
  f.real("timeout_seconds", timeout_seconds, {.min = 0.1, .max = 86400}, "longest wait for other ranks [s]");
  f.choice("compute", compute, dtypes, "type of weights and activations in forward and backward");
  f.boolean("emulate_bfloat16", emulate_bfloat16,
            "round to bfloat16 in software on processors without it: same numbers, no speed");
}

void CompressionSection::describe(Fields& f) {
  static constexpr std::array<std::string_view, 2> elementwise = {"none", "int8"};
  f.text("to_owner", to_owner,
         "what ranks send of a matrix's momentum: none, identity, top_k F, top_k_natural F, natural, sign, int2 to int8, "
         "rank R");
  f.text("to_workers", to_workers, "what owners send of a matrix's weights, as to_owner; none for both or for neither");
  f.choice("others", others, elementwise, "vectors, embeddings and heads, in both directions");
  f.choice("state_dtype", state_dtype, optim::kStateDtypes,
           "how each rank keeps what it has told the owners; those of the rules are the groups' own state_dtype");
}

void CheckpointSection::describe(Fields& f) {
  f.integer("every", every, {.min = 0}, "steps between checkpoints; 0 for none but the last [steps]");
  f.integer("keep", keep, {.min = 1}, "checkpoints kept; those written first are deleted first");
  f.boolean("at_end", at_end, "save a checkpoint after the last step; a run that is stopped or fails saves in any case");
  f.boolean("background", background,
            "write while training goes on, from a copy of the rank's state in host memory (checkpoint.every > 0)");
  f.text("resume", resume,
         "auto (the run's checkpoint that was written last, if any), none, or the start of a branch: a step, or a "
         "checkpoint's folder");
  f.boolean("set_aside", set_aside,
            "where the run's folder holds newer checkpoints of another line than the branch's: move them to aside-N in it "
            "first; false refuses the run");
  f.text_list("allow", allow, "keys that may differ from the checkpoint's, with * and ?, for example [data.shuffle]");
}

void LogSection::describe(Fields& f) {
  f.integer("every", every, {.min = 1}, "steps between step lines [steps]");
  f.integer("validate_every", validate_every, {.min = 0}, "steps between validations; 0 for the last step only [steps]");
  f.integer("validation_batches", validation_batches, {.min = 0},
            "batches per validation; 0 for all of the validation text [batches]");
  f.integer("hash_every", hash_every, {.min = 0},
            "steps between comparisons of the weights' hash over ranks; 0 for never [steps]");
  f.integer(
      "spectra_every", spectra_every, {.min = 0},
      "steps between records of the matrices' singular values in metrics.jsonl; 0 for never (docs/diagnostics.md) [steps]");
  f.text_list("spectra", spectra, "names of the parameters whose matrices have such records, with * and ?");
  f.boolean("peak", peak,
            "measure the matrix-product peak at start, and again when a step exceeds it, to show each step's share of it");
  f.boolean("report", report, "keep report.html in the run's folder up to date while it trains (docs/report.md)");
}

void RunConfig::describe(Fields& f) {
  static constexpr std::array<std::string_view, 3> devices = {"auto", "cuda", "cpu"};
  f.section(
      "run", [this](Fields& s) { run.describe(s); }, "what this run is called, how long it is");
  f.choice("device", device, devices, "where ranks compute; auto takes a GPU if there is one");
  f.section(
      "data", [this](Fields& s) { data.describe(s); }, "what is trained on");
  f.section(
      "model", [this](Fields& s) { model.describe(s); }, "what is trained");
  f.section(
      "optimizer", [this](Fields& s) { optimizer.describe(s); }, "how weights move");
  f.section(
      "schedule", [this](Fields& s) { schedule.describe(s); }, "learning rate over the run");
  f.section(
      "parallel", [this](Fields& s) { parallel.describe(s); }, "how work and memory are cut over ranks");
  f.section(
      "compression", [this](Fields& s) { compression.describe(s); },
      "error feedback over the network, parallel.zero 0 and 1 (docs/compression.md)");
  f.section(
      "checkpoint", [this](Fields& s) { checkpoint.describe(s); }, "what is saved, and where to go on");
  f.section(
      "guard", [this](Fields& s) { guard.describe(s); }, "when a step is left out or the run ends");
  f.section(
      "log", [this](Fields& s) { log.describe(s); }, "what is shown and measured");
  f.section_list(
      "eval", eval.size(), [this](std::size_t n) { eval.resize(n); },
      [this](std::size_t i, Fields& entry) { eval[i].describe(entry); },
      "what the model is evaluated on while it trains, beside the validation data");
}

namespace {

void validate_tasks(const std::vector<TrainingTask>& tasks) {
  std::set<std::string> titles;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    const std::string title = tasks[i].task.title();
    tasks[i].task.validate(fmt::format("eval.{}", i));
    if (!titles.insert(title).second)
      core::fail("eval.{}.name: '{}' is the name of an entry before it; metrics need one for each", i, title);
  }
}

}  // namespace

void RunConfig::validate() const {
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  if (run.name.empty() || run.name == "." || run.name == ".." || run.name.find('/') != std::string::npos ||
      std::any_of(run.name.begin(), run.name.end(), control))
    core::fail("run.name: '{}' is not a folder's name; it is one name below run.dir, without / and control characters",
               run.name);
  if (run.dir.empty()) core::fail("run.dir is empty; it needs the folder that holds the runs, as runs or .");
  optimizer.for_run(run.steps).validate();
  schedule.validate(run.steps);
  if (model.from.empty()) model.resolved();  // else the folder is still to be read, or was
  optim::parse_compression(compression.to_owner, compression.to_workers, compression.others, compression.state_dtype);
  validate_tasks(eval);
  if (log.spectra_every > 0 && log.spectra.empty())
    core::fail("log.spectra is empty, and log.spectra_every is {}: it needs names of matrices, as [\"*\"]",
               log.spectra_every);
  if (model.logits_dtype() == "bfloat16" && parallel.compute != "bfloat16")
    core::fail("model.logits_dtype: bfloat16 needs parallel.compute: bfloat16, which is {}", parallel.compute);
  if (parallel.emulate_bfloat16 && parallel.compute != "bfloat16")
    core::fail("parallel.emulate_bfloat16: it has no meaning with parallel.compute: {}", parallel.compute);
}

RunConfig load_run_config(const std::string& file, std::span<const std::string> overrides, core::Origin origin) {
  RunConfig config;
  core::read_config(
      file, overrides, [&](Fields& f) { config.describe(f); }, origin);
  config.validate();
  return config;
}

}  // namespace muonp::launch
