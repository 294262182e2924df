#include "core/data/finetuning/encode_examples.h"

#include <array>

#include "core/base/hash.h"
#include "core/base/index.h"
#include "core/data/finetuning/example_file.h"
#include "core/data/finetuning/jsonl.h"
#include "core/data/in_order.h"

namespace muonp::core {
namespace {

constexpr std::size_t kPartBytes = 1 << 18;
constexpr std::size_t kLinesNamed = 5;

// What became of some lines.
struct Encoded {
  std::vector<MarkedIds> examples;
  ExampleCounts counts;
  std::vector<std::string> broken;                       // "a.jsonl:7: ...", the first few
  std::array<std::string, kExampleKinds> first_of_kind;  // "a.jsonl:3"
  std::int64_t bytes = 0;

  void add(Encoded&& later) {
    for (const auto count : {&ExampleCounts::truncated, &ExampleCounts::dropped, &ExampleCounts::without_target,
                             &ExampleCounts::broken, &ExampleCounts::with_tools})
      counts.*count += later.counts.*count;
    for (std::string& line : later.broken)
      if (broken.size() < kLinesNamed) broken.push_back(std::move(line));
    for (std::size_t k = 0; k < first_of_kind.size(); ++k)
      if (first_of_kind[k].empty()) first_of_kind[k] = later.first_of_kind[k];
    bytes += later.bytes;
  }
};

class LineEncoder {
 public:
  LineEncoder(const ExampleEncoder& encoder, const ExampleFormat& format, const DataConfig& config)
      : encoder_(encoder), format_(format), config_(config) {}

  Encoded encode(const LinesPart& part) const {
    Encoded result;
    result.bytes = std::ssize(part.text);
    part.each_line([&](std::string_view line, std::int64_t number) {
      const std::string place = fmt::format("{}:{}", part.file->path(), number);
      try {
        encode_line(line, place, result);
      } catch (const BadExample& why) {
        ++result.counts.broken;
        if (result.broken.size() < kLinesNamed) result.broken.push_back(fmt::format("{}: {}", place, why.what()));
      }
    });
    return result;
  }

 private:
  void encode_line(std::string_view line, const std::string& place, Encoded& result) const {
    const Example example = format_.parse(line);
    result.counts.with_tools += example.tools;
    if (std::string& first = result.first_of_kind[at(example.kind)]; first.empty()) first = place;
    try {
      keep(encoder_.encode(example), result);
    } catch (const BadExample&) {
      throw;
    } catch (const Error& error) {
      fail("{}: {}", place, error.what());
    }
  }

  void keep(MarkedIds ids, Encoded& result) const {
    const std::int64_t tokens = std::ssize(ids), most = config_.sequence + 1;
    if (tokens > most && config_.too_long == "error")
      fail("the example has {} tokens, data.sequence allows {} (data.too_long: error)", tokens, most);
    if (tokens > most && config_.too_long == "drop") {
      ++result.counts.dropped;
      return;
    }
    if (tokens > most) ids.resize(at(most));
    if (counted_in(ids) == 0) {
      ++result.counts.without_target;
      return;
    }
    result.counts.truncated += tokens > most;
    result.examples.push_back(std::move(ids));
  }

  const ExampleEncoder& encoder_;
  const ExampleFormat& format_;
  const DataConfig& config_;
};

std::string list_of_broken(const Encoded& all) {
  std::string lines = fmt::format("{} broken line{}", all.counts.broken, all.counts.broken == 1 ? "" : "s");
  for (const std::string& line : all.broken) lines += "\n  " + line;
  if (const std::int64_t more = all.counts.broken - std::ssize(all.broken); more > 0)
    lines += fmt::format("\n  and {} more", more);
  return lines;
}

void require_one_kind(const Encoded& all, const ExampleFormat& format, const std::string& key) {
  std::vector<std::string> kinds;
  for (int k = 0; k < kExampleKinds; ++k)
    if (const std::string& place = all.first_of_kind[at(k)]; !place.empty())
      kinds.push_back(fmt::format("{} has {}", place, format.fields_of(static_cast<ExampleKind>(k))));
  if (kinds.size() > 1) fail("{}: examples of several kinds: {}; put one kind into it", key, fmt::join(kinds, ", "));
}

void require_examples(const Encoded& all, std::int64_t examples, const std::vector<std::string>& files,
                      const DataConfig& config, const std::string& key) {
  if (examples > 0) return;
  fail("{}: {} has not one valid example: {}, {} longer than data.sequence ({}), {} whose prompt alone fills a sequence",
       key, fmt::join(files, ", "), list_of_broken(all), all.counts.dropped, config.sequence, all.counts.without_target);
}

void tell(const Encoded& all, const DataConfig& config, const std::string& key, const Preparation& preparation) {
  const ExampleCounts& c = all.counts;
  if (c.broken > 0) preparation.tell(fmt::format("{}: left out {}", key, list_of_broken(all)));
  if (c.truncated > 0)
    preparation.tell(
        fmt::format("{}: {} examples are cut to {} tokens (data.sequence)", key, c.truncated, config.sequence + 1));
  if (c.dropped > 0)
    preparation.tell(fmt::format("{}: {} examples of more than {} tokens are left out (data.too_long)", key, c.dropped,
                                 config.sequence + 1));
  if (c.without_target > 0)
    preparation.tell(fmt::format(
        "{}: {} examples are left out, since no target is left to learn: their prompts alone fill a sequence of {}", key,
        c.without_target, config.sequence));
  if (c.with_tools > 0) preparation.tell(fmt::format("{}: the tools of {} examples are ignored", key, c.with_tools));
}

}  // namespace

void encode_examples(const ExampleEncoder& encoder, const ExampleFormat& format, const DataConfig& config,
                     const std::vector<std::string>& jsonl_files, const std::string& example_file, const std::string& key,
                     const Preparation& preparation) {
  std::int64_t total = 0;
  for (const std::string& file : jsonl_files) total += file_size(file);
  const LineEncoder lines(encoder, format, config);
  LinesReader reader(jsonl_files);
  ExampleFileWriter writer(example_file);
  Encoded all;
  work_in_order(
      preparation.threads, preparation.poll, [&] { return reader.next(kPartBytes); },
      [&](const LinesPart& part) { return lines.encode(part); },
      [&](Encoded&& part) {
        for (const MarkedIds& example : part.examples) writer.write(example);
        all.add(std::move(part));
        if (preparation.progress) preparation.progress("encoding", all.bytes, total);
      });
  if (all.counts.broken > 0 && !config.skip_bad)
    fail("{}: {}\nMend or remove them; data.skip_bad: true (--skip-bad) goes on without them", key, list_of_broken(all));
  require_one_kind(all, format, key);
  require_examples(all, writer.examples(), jsonl_files, config, key);
  tell(all, config, key, preparation);
  writer.commit(all.counts);
}

std::uint64_t encoding_fingerprint(const ExampleEncoder& encoder, const DataConfig& config) {
  std::uint64_t hash = encoder.fingerprint();
  const std::string keys = fmt::format("{} {} {}", config.sequence, config.too_long, config.skip_bad);
  for (const std::string& text : {config.text, config.prompt, config.completion, config.messages, keys})
    hash = hash_bytes(text.data(), std::ssize(text), hash + text.size());
  return hash;
}

}  // namespace muonp::core
