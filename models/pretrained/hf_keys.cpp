#include "models/pretrained/hf_keys.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/files/strict_json.h"

namespace muonp::models {

using nlohmann::json;

namespace {

// As it may stand in a message: a long one is cut.
std::string shown(const json& value) {
  constexpr std::size_t kLongest = 60;
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + " ...";
  return text;
}

bool turns_nothing_on(const json& value) {
  return value.is_null() || value == false || ((value.is_array() || value.is_object()) && value.empty());
}

}  // namespace

HfKeys::HfKeys(json object, std::string file, std::string path)
    : object_(std::move(object)), file_(std::move(file)), path_(std::move(path)) {
  if (!object_.is_object()) core::fail("{}: {} is no JSON object", file_, path_.empty() ? "it" : path_);
}

const json& HfKeys::raw(const std::string& key) const {
  static const json null;
  asked_.insert(key);
  const auto found = object_.find(key);
  return found == object_.end() ? null : *found;
}

bool HfKeys::has(const std::string& key) const { return !raw(key).is_null(); }

void HfKeys::refuse(const std::string& key, std::string_view valid) const {
  core::fail("{}: {}{} is {}; {}", file_, path_, key, has(key) ? shown(raw(key)) : "missing", valid);
}

std::int64_t HfKeys::count(const std::string& key) const {
  if (!core::is_count(raw(key)) || raw(key) == 0) refuse(key, "it has to be an integer of at least 1");
  return raw(key).get<std::int64_t>();
}

std::int64_t HfKeys::count_or(const std::string& key, std::int64_t otherwise) const {
  return has(key) ? count(key) : otherwise;
}

double HfKeys::real_or(const std::string& key, double otherwise) const {
  if (!has(key)) return otherwise;
  const json& value = raw(key);
  if (!value.is_number() || !std::isfinite(value.get<double>()) || value.get<double>() < 0)
    refuse(key, "it has to be a number that is not negative");
  return value.get<double>();
}

bool HfKeys::flag_or(const std::string& key, bool otherwise) const {
  if (!has(key)) return otherwise;
  if (!raw(key).is_boolean()) refuse(key, "it has to be true or false");
  return raw(key).get<bool>();
}

std::string HfKeys::text_or(const std::string& key, const std::string& otherwise) const {
  if (!has(key)) return otherwise;
  if (!raw(key).is_string()) refuse(key, "it has to be a text");
  return raw(key).get<std::string>();
}

std::vector<std::string> HfKeys::texts(const std::string& key) const {
  if (!has(key)) return {};
  const json& list = raw(key);
  if (!list.is_array() || !std::ranges::all_of(list, [](const json& entry) { return entry.is_string(); }))
    refuse(key, "it has to be a list of texts");
  return list.get<std::vector<std::string>>();
}

HfKeys HfKeys::object(const std::string& key) const {
  if (!raw(key).is_object()) refuse(key, "it has to be an object");
  return {raw(key), file_, path_ + key + "."};
}

void HfKeys::require_flag(const std::string& key, bool valid) const {
  if (flag_or(key, valid) != valid) refuse(key, fmt::format("{} alone is supported", valid));
}

void HfKeys::require_real(const std::string& key, double valid) const {
  if (real_or(key, valid) != valid) refuse(key, fmt::format("{} alone is supported", valid));
}

void HfKeys::require_text(const std::string& key, std::span<const std::string_view> valid) const {
  if (std::ranges::find(valid, text_or(key, std::string(valid[0]))) == valid.end())
    refuse(key, fmt::format("supported {} {}", valid.size() == 1 ? "is" : "are", fmt::join(valid, ", ")));
}

void HfKeys::require_no_others(std::span<const std::string_view> ignored) const {
  const auto is_ignored = [&](const std::string& key) {
    return std::ranges::any_of(ignored, [&](std::string_view pattern) {
      return pattern.ends_with('*') ? key.starts_with(pattern.substr(0, pattern.size() - 1)) : key == pattern;
    });
  };
  for (const auto& [key, value] : object_.items())
    if (!asked_.contains(key) && !is_ignored(key) && !turns_nothing_on(value))
      refuse(key, "this program does not know the key; one that does not change what the model computes may be removed");
}

}  // namespace muonp::models
