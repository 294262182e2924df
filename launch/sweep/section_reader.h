// One section of a YAML file, read key by key: each key is asked for once, and what nobody asked for is an Error at the end.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/config.h"
#include "core/config/config_tree.h"

namespace muonp::launch {

class SectionReader {
 public:
  // `path` begins the names in messages; empty for a whole file. Error if it is no section. `tree` outlives the reader.
  SectionReader(const core::config::Tree& tree, std::string path);

  // The value of the key, or what stands for it where it is not given. Error names file, line, key and what is valid.
  std::string text(std::string_view key, const std::string& otherwise);
  std::int64_t integer(std::string_view key, std::int64_t otherwise, core::IntegerRange valid);
  std::vector<std::string> texts(std::string_view key);
  // The place among `words`; 0 where it is not given.
  std::size_t choice(std::string_view key, std::span<const std::string_view> words);
  // Null where it is not given.
  const core::config::Tree* section(std::string_view key);
  const core::config::Tree* list(std::string_view key);

  // Error names a key that is left, and the valid ones.
  void finish() const;

 private:
  std::string path_of(std::string_view key) const;
  const core::config::Tree* find(std::string_view key, core::config::Tree::Kind kind, const std::string& valid);

  const core::config::Tree& tree_;
  std::string path_;
  std::vector<std::string> known_;
};

}  // namespace muonp::launch
