#include "launch/evaluation/task_lines.h"

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/data/finetuning/example.h"
#include "core/data/finetuning/jsonl.h"

namespace muonp::launch {

std::string place_of(const std::string& file, std::int64_t line) { return fmt::format("{}:{}", file, line); }

std::uint64_t read_task_lines(const std::string& file, std::int64_t limit,
                              const std::function<void(std::string_view, std::int64_t)>& read) {
  constexpr std::size_t kPart = 1 << 20;
  core::LinesReader reader({file});
  std::int64_t count = 0;
  std::uint64_t hash = 0;
  while (const auto part = reader.next(kPart))
    part->each_line([&](std::string_view line, std::int64_t number) {
      if (limit > 0 && count == limit) return;
      ++count;
      hash = core::hash_bytes(line.data(), std::ssize(line), hash);
      try {
        read(line, number);
      } catch (const core::BadExample& error) {
        core::fail("{}: {}", place_of(file, number), error.what());
      }
    });
  if (count == 0) core::fail("{}: the file has no line to evaluate on", file);
  return hash;
}

}  // namespace muonp::launch
