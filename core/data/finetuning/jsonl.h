// A JSONL file as lines with their numbers, in parts that threads can share out.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/files/mapped_file.h"

namespace muonp::core {

// Whole lines of one file.
struct LinesPart {
  std::shared_ptr<const MappedFile> file;
  std::string_view text;
  std::int64_t first_line = 1;  // its number, counted from 1

  // use(line, number) for each that is not white space alone. Error if the file was shortened meanwhile.
  template <class Use>
  void each_line(const Use& use) const {
    std::int64_t number = first_line;
    for (std::string_view rest = text; !rest.empty(); ++number) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(rest.size(), line.size() + 1));
      if (line.find_first_not_of(" \t\r") != std::string_view::npos) use(line, number);
    }
    file->require_whole();
  }
};

// Goes through the files, one after the other; empty ones are fine.
class LinesReader {
 public:
  explicit LinesReader(std::vector<std::string> files) : files_(std::move(files)) {}
  // Lines of about `bytes`, at least one; nothing after the last file.
  std::optional<LinesPart> next(std::size_t bytes);

 private:
  std::vector<std::string> files_;
  std::size_t opened_ = 0;
  LinesPart rest_;
};

}  // namespace muonp::core
