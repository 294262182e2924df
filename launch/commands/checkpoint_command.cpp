// muonp checkpoint: what checkpoints there are, whether they are whole, and their weights for other programs.
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "core/base/units.h"
#include "core/files/abandoned_files.h"
#include "core/files/checkpoint_pieces.h"
#include "core/files/checkpoint_store.h"
#include "core/files/files.h"
#include "launch/commands/cli.h"
#include "launch/program/signals.h"
#include "launch/report/progress.h"
#include "launch/report/table.h"
#include "launch/train/checkpointing.h"
#include "launch/train/descent.h"
#include "launch/train/weights_file.h"

namespace muonp::launch {
namespace {

using nlohmann::ordered_json;

struct Arguments {
  std::string folder, out, dtype = "float32";
  std::int64_t step = -1;  // -1: the newest that is intact
  bool json = false;
};

// The checkpoint folders that `folder` stands for: itself, or those of a run or of its folder of checkpoints,
// the one that was written first before the others. Error if there are none.
std::vector<std::string> checkpoints_of(const std::string& folder) {
  if (!core::is_directory(folder)) core::fail("{}: no such folder; valid are a run's folder and a checkpoint's", folder);
  if (core::exists(folder + "/" + core::kManifestName)) return {folder};
  const std::string inside = folder + "/checkpoints";
  const core::CheckpointStore store(core::is_directory(inside) ? inside : folder);
  std::vector<std::string> paths;
  for (const std::int64_t step : store.by_age()) paths.push_back(store.path_of(step));
  if (paths.empty()) core::fail("{}: no checkpoint is here; valid are a run's folder and a checkpoint's", store.directory());
  return paths;
}

// When the manifest was written, UTC.
std::string date_of(const std::string& checkpoint) {
  struct stat status {};
  if (::stat((checkpoint + "/" + core::kManifestName).c_str(), &status) != 0) return "";
  std::tm time{};
  ::gmtime_r(&status.st_mtime, &time);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &time)};
}

ordered_json row_of(const std::string& path) {
  ordered_json row{{"path", path}, {"date", date_of(path)}};
  try {
    const core::Checkpoint checkpoint(path);
    std::int64_t bytes = 0;
    for (const core::CheckpointEntry& e : checkpoint.entries()) bytes += e.bytes;
    const ordered_json state = ordered_json::parse(checkpoint.state_json());
    row["step"] = checkpoint.step();
    row["written_us"] = checkpoint.written();
    for (const char* key : {"world_size", "zero"})
      row[key] = state.is_object() && state.contains(key) ? state.at(key) : ordered_json();
    row["starts"] = to_json(starts_of(checkpoint));
    row["bytes"] = bytes;
    row["files"] = checkpoint.entries().size();
  } catch (const core::Error& error) {
    row["error"] = error.what();
  }
  return row;
}

std::string as_table(const ordered_json& rows) {
  Table table({"step", "branched at", "date (UTC)", "ranks", "ZeRO", "size", "files"},
              {Align::right, Align::right, Align::left, Align::right, Align::right, Align::right, Align::right});
  std::string damaged;
  for (const ordered_json& row : rows) {
    if (row.contains("error")) {
      damaged += "\ndamaged: " + row.at("error").get<std::string>();
      continue;
    }
    const auto number = [&](const char* key) { return row.at(key).is_null() ? "-" : row.at(key).dump(); };
    const ordered_json& starts = row.at("starts");
    const std::string start = starts.empty() ? "-" : starts.back().at("step").dump();
    table.add({number("step"), start, row.at("date"), number("world_size"), number("zero"),
               core::format_bytes(row.at("bytes")), number("files")});
  }
  return table.render() + damaged;
}

int list(Session& session, const Arguments& a) {
  ordered_json rows = ordered_json::array();
  for (const std::string& path : checkpoints_of(a.folder)) rows.push_back(row_of(path));
  session.log().info("{}", a.json ? rows.dump(2) : as_table(rows));
  if (!a.json)
    for (const std::string& folder : set_aside_in(a.folder)) session.log().info("set aside: {}", folder);
  return 0;
}

constexpr std::int64_t kMib = 1 << 20;

// Everything that is wrong with a checkpoint, one message each.
std::vector<std::string> defects_of(const std::string& path) {
  std::vector<std::string> defects;
  const auto check = [&](const auto& work) {
    try {
      work();
    } catch (const core::Error& error) {
      defects.emplace_back(error.what());
    }
  };
  check([&] {
    const core::Checkpoint checkpoint(path);
    std::int64_t bytes = 0, done = 0;
    for (const core::CheckpointEntry& e : checkpoint.entries()) bytes += e.bytes;
    Progress bar(fmt::format("step {} [MiB]", checkpoint.step()), std::max<std::int64_t>(1, bytes / kMib), 0,
                 progress_options_for(stderr));
    for (const core::CheckpointEntry& e : checkpoint.entries()) {
      const auto show = [&](std::int64_t read) { bar.update(std::min(bytes, done + read) / kMib, e.name); };
      check([&] { checkpoint.verify_file(e, bytes >= kMib ? show : std::function<void(std::int64_t)>()); });
      done += e.bytes;
    }
    if (defects.empty()) const core::PieceReader pieces(checkpoint, kStatePrefix);
  });
  return defects;
}

int verify(Session& session, const Arguments& a) {
  int damaged = 0;
  const std::vector<std::string> paths = checkpoints_of(a.folder);
  for (const std::string& path : paths) {
    const std::vector<std::string> defects = defects_of(path);
    damaged += defects.empty() ? 0 : 1;
    session.log().info("{}: {}", path, defects.empty() ? "whole" : "DAMAGED");
    for (const std::string& defect : defects) session.log().info("  {}", defect);
  }
  if (damaged > 0)
    session.log().error(
        fmt::format("{} of {} checkpoint{} damaged", damaged, paths.size(), paths.size() == 1 ? " is" : "s are"));
  return damaged > 0 ? kStatusError : 0;
}

// The checkpoint of a step, or the newest that is whole; of a checkpoint's folder, itself.
core::Checkpoint opened(const Arguments& a) {
  const std::vector<std::string> paths = checkpoints_of(a.folder);
  if (core::exists(a.folder + "/" + core::kManifestName)) {
    core::Checkpoint checkpoint = core::CheckpointStore(a.folder).open(a.folder);
    if (a.step >= 0 && a.step != checkpoint.step())
      core::fail("--step {}: {} is the checkpoint of step {}", a.step, a.folder, checkpoint.step());
    return checkpoint;
  }
  const core::CheckpointStore store(core::parent_directory(paths.back()));
  if (a.step >= 0) return store.open(a.step);
  std::string refused;
  auto latest = store.latest([&](const std::string& why) { refused += "\n  " + why; });
  if (!latest) core::fail("{}: no checkpoint is intact:{}", store.directory(), refused);
  return *std::move(latest);
}

int export_to_file(Session& session, const Arguments& a) {
  const core::Checkpoint checkpoint = opened(a);
  core::remove_abandoned_files(core::parent_directory(a.out));
  Progress bar("elements", std::max<std::int64_t>(1, weight_elements(checkpoint)), 0, progress_options_for(stderr));
  const StopSignals signals;
  const std::int64_t bytes = export_weights(checkpoint, a.out, core::parse_dtype(a.dtype), [&](std::int64_t done) {
    bar.update(done, "");
    require_no_stop(a.out + " is as it was");
  });
  bar.clear();
  session.log().info("{}: the weights of step {} in {}, {}", a.out, checkpoint.step(), a.dtype, core::format_bytes(bytes));
  return 0;
}

void add(CLI::App& parent, Context& context, const std::shared_ptr<Arguments>& a, const char* name, const char* what,
         int (*work)(Session&, const Arguments&), const std::function<void(CLI::App&)>& options) {
  CLI::App* command = parent.add_subcommand(name, what);
  command->add_option("DIR", a->folder, "Folder of a run (<run.dir>/<run.name>) or of a checkpoint")->required();
  options(*command);
  command->callback([a, work, &context] {
    context.session.device = "cpu";
    context.session.threads = 1;
    context.run = [a, work](Session& session) { return work(session, *a); };
  });
}

}  // namespace

void add_checkpoint_command(CLI::App& app, Context& context) {
  CLI::App* parent = app.add_subcommand("checkpoint", "List, verify and export checkpoints");
  parent->require_subcommand(1);
  parent->footer(
      "Examples:\n"
      "  muonp checkpoint list runs/quickstart-p-1-2\n"
      "  muonp checkpoint verify runs/quickstart-p-1-2\n"
      "  muonp checkpoint export runs/quickstart-p-1-2 weights.safetensors --dtype bfloat16");
  const auto a = std::make_shared<Arguments>();
  add(*parent, context, a, "list", "The checkpoints of a run in the order of writing: step, branch, date, ranks, size", list,
      [a](CLI::App& c) {
        c.add_flag("--json", a->json, "Print a JSON list");
        c.footer(
            "Reads manifests and sizes of files; `verify` reads everything.\n"
            "Examples:\n"
            "  muonp checkpoint list runs/quickstart-p-1-2 --json");
      });
  add(*parent, context, a, "verify", "Read everything and compare it with its checksums", verify, [](CLI::App& c) {
    c.footer(
        "Ends with status 1 if anything is wrong.\n"
        "Examples:\n"
        "  muonp checkpoint verify runs/quickstart-p-1-2\n"
        "  muonp checkpoint verify runs/quickstart-p-1-2/checkpoints/step-00000420");
  });
  add(*parent, context, a, "export", "The model's weights as a safetensors file for any library", export_to_file,
      [a](CLI::App& c) {
        c.add_option("OUT", a->out, "File to write")->required();
        add_integer_option(c, "--step", a->step, {.min = 0}, "Step to export; the newest that is intact if not given")
            ->default_str("");
        c.add_option("--dtype", a->dtype, "Type of the weights in the file")
            ->check(CLI::IsMember({"float32", "bfloat16"}))
            ->capture_default_str();
        c.footer(
            "Every parameter whole, under its own name. `muonp eval` and `muonp generate` read it too.\n"
            "Examples:\n"
            "  muonp checkpoint export runs/quickstart-p-1-2 weights.safetensors\n"
            "  muonp checkpoint export runs/quickstart-p-1-2 w.safetensors --step 400 --dtype bfloat16\n"
            "  muonp eval runs/quickstart-p-1-2 --checkpoint weights.safetensors");
      });
}

}  // namespace muonp::launch
