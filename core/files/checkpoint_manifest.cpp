#include "core/files/checkpoint_manifest.h"

#include <algorithm>
#include <charconv>
#include <system_error>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/files/strict_json.h"

namespace muonp::core {
namespace {

using Json = nlohmann::json;

constexpr const char* kFormat = "muonp checkpoint";
constexpr std::int64_t kVersion = 1;
constexpr const char* kOwnChecksum = "manifest_xxh3";
constexpr const char* kWritten = "written_us";
constexpr std::int64_t kLatest = std::int64_t{1} << 62;

std::string checksum_of(const Json& manifest) {
  const std::string text = manifest.dump();
  return checksum_text(hash_bytes(text.data(), std::ssize(text)));
}

// Takes a manifest apart; what cannot be ends in `damaged`, which throws.
class ManifestParser {
 public:
  ManifestParser(const std::string& text, const std::string& file) : file_(file), json_(parse(text)) {}

  CheckpointManifest manifest() {
    if (!json_.is_object() || json_.value("format", Json()) != kFormat)
      fail("{} is not the manifest of a muonp checkpoint", file_);
    if (const Json& version = at(json_, "version"); version != kVersion)
      fail("{} has format version {}; this program reads version {}", file_, shown(version), kVersion);
    const std::string expected = text_at(json_, kOwnChecksum);
    json_.erase(kOwnChecksum);
    if (const std::string found = checksum_of(json_); found != expected)
      fail("{} was altered: its checksum is {}, it says {}", file_, found, expected);
    CheckpointManifest manifest{count_at(json_, "step"), {}, at(json_, "state").dump()};
    const Json& files = at(json_, "files");
    if (!files.is_array()) damaged("its files are no list");
    for (const Json& f : files) manifest.entries.push_back(entry(f));
    if (json_.contains(kWritten)) manifest.written = count_at(json_, kWritten);
    if (manifest.written > kLatest) damaged("its {} is {}, later than any time", kWritten, manifest.written);
    manifest.checksum = expected;
    const auto later = [](const CheckpointEntry& a, const CheckpointEntry& b) { return a.name >= b.name; };
    const auto pair = std::ranges::adjacent_find(manifest.entries, later);
    if (pair != manifest.entries.end()) damaged("file '{}' stands twice or out of order", std::next(pair)->name);
    return manifest;
  }

 private:
  template <class... Args>
  [[noreturn]] void damaged(fmt::format_string<Args...> format, Args&&... args) const {
    fail("{} is damaged: {}", file_, fmt::format(format, std::forward<Args>(args)...));
  }

  Json parse(const std::string& text) const {
    try {
      return parse_strict_json(text);
    } catch (const Error& error) {
      damaged("{}", error.what());
    }
  }

  static std::string shown(const Json& value) { return value.dump(-1, ' ', true); }

  const Json& at(const Json& object, const char* key) const {
    if (!object.is_object() || !object.contains(key)) damaged("it has no {}", key);
    return object.at(key);
  }
  std::string text_at(const Json& object, const char* key) const {
    const Json& value = at(object, key);
    if (!value.is_string()) damaged("its {} is {}, which is no text", key, shown(value));
    return value.get<std::string>();
  }
  std::int64_t count_at(const Json& object, const char* key) const {
    const Json& value = at(object, key);
    if (!is_count(value)) damaged("its {} is {}, which is no count", key, shown(value));
    return value.get<std::int64_t>();
  }

  CheckpointEntry entry(const Json& f) const {
    CheckpointEntry entry{text_at(f, "name"), count_at(f, "bytes"), 0};
    if (!is_entry_name(entry.name)) damaged("{} is no file name", shown(f.at("name")));
    const std::string digits = text_at(f, "xxh3");
    const char* end = digits.data() + digits.size();
    const auto [stop, code] = std::from_chars(digits.data(), end, entry.checksum, 16);
    if (digits.size() != 16 || code != std::errc() || stop != end)
      damaged("the checksum of {} is {}, not 16 hexadecimal digits", entry.name, shown(f.at("xxh3")));
    return entry;
  }

  const std::string& file_;
  Json json_;
};

}  // namespace

bool is_entry_name(const std::string& name) {
  const auto printable = [](char c) { return c > ' ' && c <= '~' && c != '/'; };
  return !name.empty() && std::ranges::all_of(name, printable) && !name.starts_with('.') && name != kManifestName;
}

std::string checksum_text(std::uint64_t checksum) { return fmt::format("{:016x}", checksum); }

std::string write_manifest(CheckpointManifest manifest) {
  std::ranges::sort(manifest.entries, {}, &CheckpointEntry::name);
  Json files = Json::array();
  for (const CheckpointEntry& e : manifest.entries)
    files.push_back({{"name", e.name}, {"bytes", e.bytes}, {"xxh3", checksum_text(e.checksum)}});
  Json json = {{"format", kFormat}, {"version", kVersion}, {"step", manifest.step}, {"files", files}};
  json[kWritten] = manifest.written;
  MUONP_ASSERT(Json::accept(manifest.state_json), "the checkpoint's state is no JSON: {}", manifest.state_json);
  json["state"] = Json::parse(manifest.state_json);
  json[kOwnChecksum] = checksum_of(json);
  return json.dump(1) + "\n";
}

CheckpointManifest read_manifest(const std::string& text, const std::string& file) {
  return ManifestParser(text, file).manifest();
}

}  // namespace muonp::core
