// The keys of a config.json, each asked for by name; what nobody asked for is looked at in the end. For sources: it brings
// the whole JSON library with it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string>
#include <string_view>

namespace muonp::models {

class HfKeys {
 public:
  // `file` begins the messages; `path` stands before the keys in them ("rope_scaling.").
  HfKeys(nlohmann::json object, std::string file, std::string path = "");

  // A key that is null counts as one that is not there.
  bool has(const std::string& key) const;
  bool is_null(const std::string& key) const { return object_.contains(key) && !has(key); }
  // Errors name the key, what stands there, and what is valid.
  std::int64_t count(const std::string& key) const;  // ≥ 1, required
  std::int64_t count_or(const std::string& key, std::int64_t otherwise) const;
  double real_or(const std::string& key, double otherwise) const;  // ≥ 0
  bool flag_or(const std::string& key, bool otherwise) const;
  std::string text_or(const std::string& key, const std::string& otherwise) const;
  std::vector<std::string> texts(const std::string& key) const;  // empty if the key is not there
  HfKeys object(const std::string& key) const;
  const nlohmann::json& raw(const std::string& key) const;  // null if it is not there

  // What this program has in one form only.
  void require_flag(const std::string& key, bool valid) const;
  void require_real(const std::string& key, double valid) const;
  void require_text(const std::string& key, std::span<const std::string_view> valid) const;
  [[noreturn]] void refuse(const std::string& key, std::string_view valid) const;

  // Every key that was asked for, or is in `ignored`, or has a value that turns nothing on (null, false, an empty list or
  // object). Error names the first other one.
  void require_no_others(std::span<const std::string_view> ignored) const;

  const std::string& file() const { return file_; }

 private:
  nlohmann::json object_;
  std::string file_, path_;
  mutable std::set<std::string> asked_;
};

}  // namespace muonp::models
