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
#include "launch/commands/cli.h"
#include "launch/program/signals.h"

namespace muonp::launch {
namespace {

constexpr const char* kFooter =
    "The encoding is lossless for every file: what is in no piece is written byte by byte, nothing is "
    "normalised.\n"
    "Of the vocabulary, 256 ids are the bytes and one is reserved. Text longer than --sample is sampled "
    "evenly.\n"
    "Examples:\n"
    "  muonp tokenize --in text.txt --vocab 1024 --out bpe.model\n"
    "  muonp tokenize --in texts/ --vocab 32768 --out bpe.model --bin tokens.bin --format llmc\n"
    "  muonp tokenize --in held-out.txt --model bpe.model --bin validation.bin";

struct Arguments {
  std::string in, out, model, bin, format = "llmc";
  std::int64_t vocabulary = 0;
  double sample_mib = 100;
};

std::string since(double start) { return format_duration(core::seconds_now() - start); }

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
  session.log().info("learned {} pieces from {} of text in {}: {}", a.vocabulary, format_bytes(read), since(watch), a.out);
}

// Into --bin, or only to count.
void encode(const Session& session, const Arguments& a, const std::string& model, const std::vector<std::string>& files) {
  const core::TokenizerHandle tokenizer = core::open_tokenizer(model);
  const std::int64_t bytes = bytes_in(files);
  const double watch = core::seconds_now();
  const StopSignals signals;
  const core::Preparation preparation{.poll = [&] { require_no_stop(a.bin.empty() ? "" : a.bin + " is as it was"); },
                                      .threads = core::processors().usable()};
  std::int64_t tokens = 0;
  if (a.bin.empty()) {
    tokens = core::count_tokens(*tokenizer, files, preparation);
  } else {
    core::make_directories(core::parent_directory(a.bin));
    tokens = core::tokenize_files(*tokenizer, files, a.bin, core::parse_token_format(a.format), preparation);
  }
  session.log().info("vocabulary {}: {} bytes are {} tokens, {:.3f} bytes per token ({}){}", tokenizer->vocabulary(), bytes,
                     tokens, static_cast<double>(bytes) / static_cast<double>(tokens), since(watch),
                     a.bin.empty() ? "" : fmt::format(": {}", a.bin));
}

int run(const Session& session, const Arguments& a) {
  const std::vector<std::string> files = core::text_files_of(a.in, "--in");
  for (const std::string& written : {a.out, a.bin})
    for (const std::string& file : files)
      if (std::error_code absent; std::filesystem::equivalent(written, file, absent))
        core::fail("{} would be overwritten: it is part of the text in {}", file, a.in);
  for (const std::string& written : {a.out, a.bin})
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
  CLI::Option* model = command->add_option("--model", a->model, "Encode with this model file (or byte), learn nothing");
  command->add_option("--bin", a->bin, "Token file to write");
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
