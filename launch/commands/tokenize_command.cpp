// muonp tokenize: learns a byte-pair encoding from text, and encodes text into token files.
#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/processors.h"
#include "core/base/units.h"
#include "core/data/encode_text.h"
#include "core/data/tokenizer/bpe_training.h"
#include "core/files/abandoned_files.h"
#include "core/files/files.h"
#include "core/files/npy.h"
#include "launch/commands/cli.h"
#include "launch/program/signals.h"

namespace muonp::launch {
namespace {

constexpr const char* kFooter =
    "What is learned is lossless for every file: what is in no piece is written byte by byte, nothing is "
    "normalised.\n"
    "Of the vocabulary, 256 ids are the bytes and one is reserved. Text longer than --sample is sampled "
    "evenly.\n"
    "Examples:\n"
    "  muonp tokenize --in text.txt --vocab 1024 --out bpe.model\n"
    "  muonp tokenize --in texts/ --vocab 32768 --out bpe.model --bin tokens.bin --format llmc\n"
    "  muonp tokenize --in held-out.txt --model bpe.model --bin validation.bin\n"
    "  muonp tokenize --in text.txt --tokenizer SmolLM2-135M/ --ids ids.npy";

struct Arguments {
  std::string in, out, model, bin, ids, format = "llmc";
  bool specials = false;
  std::int64_t vocabulary = 0;
  double sample_mib = 100;
};

std::string since(double start) { return core::format_duration(core::seconds_now() - start); }

std::int64_t bytes_in(const std::vector<std::string>& files) {
  std::int64_t bytes = 0;
  for (const std::string& file : files) bytes += core::file_size(file);
  return bytes;
}

void learn(const Session& session, const Arguments& a, const std::vector<std::string>& files) {
  core::make_directories(core::parent_directory(a.out));
  const double watch = core::seconds_now();
  const auto sample_bytes = static_cast<std::int64_t>(a.sample_mib * 1024 * 1024);
  // Until there is something to write, a signal ends the process at once and leaves nothing.
  const std::string model = core::learn_bpe(files, a.vocabulary, sample_bytes);
  const StopSignals signals;
  core::write_file(a.out, model);
  const std::int64_t read = std::min(sample_bytes, bytes_in(files));
  session.log().info("learned {} pieces from {} of text in {}: {}", a.vocabulary, core::format_bytes(read), since(watch),
                     a.out);
}

// With --specials, begin and end stand around each file where the original puts them around a text.
std::int64_t write_ids(const core::Tokenizer& tokenizer, const Arguments& a, const std::vector<std::string>& files,
                       const core::Preparation& preparation) {
  core::NpyIds writer(a.ids);
  const auto add = [&](bool asked, std::int32_t id) {
    if (a.specials && asked) writer.write({&id, 1});
  };
  for (const std::string& file : files) {
    add(tokenizer.adds_begin(), tokenizer.begin());
    core::encode_files(tokenizer, {file}, preparation, [&](std::span<const std::int32_t> ids) { writer.write(ids); });
    add(tokenizer.adds_end(), tokenizer.end());
  }
  writer.commit();
  return writer.count();
}

// Into --bin or --ids, or only to count.
void encode(const Session& session, const Arguments& a, const std::string& model, const std::vector<std::string>& files) {
  const core::TokenizerHandle tokenizer = core::open_tokenizer(model);
  const std::int64_t bytes = bytes_in(files);
  const double watch = core::seconds_now();
  const StopSignals signals;
  const std::string written = a.bin + a.ids;  // one of them is empty
  const core::Preparation preparation{.poll = [&] { require_no_stop(written.empty() ? "" : written + " is as it was"); },
                                      .threads = core::processors().usable()};
  std::int64_t tokens = 0;
  if (!written.empty()) core::make_directories(core::parent_directory(written));
  if (written.empty()) {
    tokens = core::count_tokens(*tokenizer, files, preparation);
  } else if (!a.ids.empty()) {
    tokens = write_ids(*tokenizer, a, files, preparation);
  } else {
    tokens = core::tokenize_files(*tokenizer, files, a.bin, core::parse_token_format(a.format), preparation);
  }
  session.log().info("vocabulary {}: {} bytes are {} tokens, {:.3f} bytes per token ({}){}", tokenizer->vocabulary(), bytes,
                     tokens, static_cast<double>(bytes) / static_cast<double>(tokens), since(watch),
                     written.empty() ? "" : fmt::format(": {}", written));
  if (const std::string changes = tokenizer->changes(); !changes.empty())
    session.log().info("{} changes text: {}", tokenizer->name(), changes);
}

int run(const Session& session, const Arguments& a) {
  const std::vector<std::string> files = core::text_files_of(a.in, "--in");
  for (const std::string& written : {a.out, a.bin, a.ids})
    for (const std::string& file : files)
      if (std::error_code absent; std::filesystem::equivalent(written, file, absent))
        core::fail("{} would be overwritten: it is part of the text in {}", file, a.in);
  for (const std::string& written : {a.out, a.bin, a.ids})
    if (!written.empty()) core::remove_abandoned_files(core::parent_directory(written));
  if (!a.out.empty()) learn(session, a, files);
  encode(session, a, a.out.empty() ? a.model : a.out, files);
  return 0;
}

}  // namespace

void add_tokenize_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("tokenize", "Learn a BPE tokenizer from text, encode text into token files");
  auto a = std::make_shared<Arguments>();
  command->add_option("--in", a->in, "Text file, or folder of text files")->required();
  CLI::Option* vocabulary =
      add_integer_option(*command, "--vocab", a->vocabulary, {.min = 258, .max = 1'000'000}, "Pieces to learn");
  CLI::Option* out = command->add_option("--out", a->out, "Model file to write");
  CLI::Option* model = command->add_option("--model,--tokenizer", a->model,
                                           "Encode with this model file, tokenizer.json or folder (or byte), learn nothing");
  CLI::Option* bin = command->add_option("--bin", a->bin, "Token file to write");
  CLI::Option* ids = command->add_option("--ids", a->ids, "File of int32 ids to write (.npy)")->excludes(bin);
  command->add_flag("--specials", a->specials, "Put the tokenizer's begin and end around each file, where it has them")
      ->needs(ids);
  command->add_option("--format", a->format, "Of the token file: llmc or nanogpt")
      ->check(CLI::IsMember({"llmc", "nanogpt"}))
      ->capture_default_str();
  add_real_option(*command, "--sample", a->sample_mib, {.min = 0.001, .max = 1e9}, "Most text to learn from [MiB]");
  out->needs(vocabulary);
  vocabulary->needs(out);
  model->excludes(out);
  command->footer(kFooter);
  command->callback([a, &context] {
    if (a->out.empty() == a->model.empty())
      throw CLI::ValidationError("give --vocab and --out to learn a tokenizer, or --model to use one");
    context.run = [a](Session& session) { return run(session, *a); };
  });
}

}  // namespace muonp::launch
