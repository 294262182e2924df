#include "core/data/finetuning/jsonl.h"

#include <algorithm>

#include "core/files/files.h"

namespace muonp::core {

std::optional<LinesPart> LinesReader::next(std::size_t bytes) {
  while (rest_.text.empty()) {
    if (opened_ == files_.size()) return {};
    const std::string& path = files_[opened_++];
    if (file_size(path) == 0) continue;
    const auto file = std::make_shared<const MappedFile>(path);
    rest_ = {file, {file->data(), static_cast<std::size_t>(file->size())}, 1};
  }
  LinesPart part = rest_;
  const std::size_t end = rest_.text.size() <= bytes ? std::string_view::npos : rest_.text.find('\n', bytes - 1);
  part.text = rest_.text.substr(0, end == std::string_view::npos ? end : end + 1);
  rest_.text.remove_prefix(part.text.size());
  rest_.first_line += std::ranges::count(part.text, '\n');
  return part;
}

}  // namespace muonp::core
