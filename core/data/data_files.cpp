#include "core/data/data_files.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <system_error>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/data/file_format.h"
#include "core/files/files.h"

namespace muonp::core {
namespace {

namespace fs = std::filesystem;

bool is_link(const fs::path& path) {
  std::error_code code;
  return fs::is_symlink(path, code);
}

bool holds(const fs::path& folder, const fs::path& below) {
  return std::mismatch(folder.begin(), folder.end(), below.begin(), below.end()).first == folder.end();
}

// Goes through folders depth first and keeps those it is in, as the paths that links lead to.
class Walk {
 public:
  Walk(std::string key, std::vector<std::string>& files) : key_(std::move(key)), files_(files) {}

  void folder(const fs::path& path) {
    std::error_code code;
    const fs::path real = fs::canonical(path, code);
    if (code) fail("{}: cannot read {}: {}", key_, path.string(), code.message());
    for (const fs::path& outer : within_)
      if (holds(real, outer))
        fail("{}: {} is a link that leads back to {}, which holds it; remove the link", key_, path.string(), real.string());
    within_.push_back(real);
    for (const std::string& name : list_directory(path.string()))
      if (!name.starts_with('.')) entry(path / name);
    within_.pop_back();
  }

  void entry(const fs::path& path) {
    std::error_code code;
    const fs::file_status status = fs::status(path, code);
    if (fs::is_directory(status)) return folder(path);
    if (fs::is_regular_file(status)) return files_.push_back(path.string());
    if (is_link(path) && !fs::exists(status))
      fail("{}: {} is a link that leads nowhere (to {}); mend or remove it", key_, path.string(),
           fs::read_symlink(path, code).string());
    if (!fs::exists(status)) fail("{}: cannot read {}: {}", key_, path.string(), code.message());
    fail("{}: {} is no regular file; text files and token files (.bin) can be trained on", key_, path.string());
  }

 private:
  std::string key_;
  std::vector<std::string>& files_;
  std::vector<fs::path> within_;
};

bool is_encoded(DataKind kind) { return kind == DataKind::tokens || kind == DataKind::examples; }

void require_known(const std::string& file, const std::string& key) {
  const std::string start = read_start(file, kFormatBytes);
  const std::int64_t size = file_size(file);
  const bool encoded = is_encoded(data_kind(file));
  const auto format = encoded ? known_format(start, size) : known_format_beside_text(start, size);
  if (format)
    fail("{}: {} is {}, {}; {}", key, file, format->name, encoded ? "no sequence of token ids" : "which is not read as text",
         format->advice);
}

}  // namespace

DataKind data_kind(std::string_view path) {
  if (path.ends_with(".bin")) return DataKind::tokens;
  if (path.ends_with(".jsonl")) return DataKind::jsonl;
  return path.ends_with(".examples") ? DataKind::examples : DataKind::text;
}

std::vector<std::string> data_files(const std::string& path, const std::string& key) {
  if (path.empty())
    fail("{} is empty; it needs a text file, a token file (.bin), a JSONL file or a folder of such files", key);
  if (!exists(path) && !is_link(path)) fail("{}: there is no file or folder {}", key, path);
  std::vector<std::string> files;
  Walk(key, files).entry(path);
  if (files.empty()) fail("{}: the folder {} has no files", key, path);
  static constexpr std::array names = {"text", "token files", "JSONL files", "files of encoded examples"};
  const auto kind = [](const std::string& file) { return data_kind(file); };
  const DataKind first = kind(files.front());
  if (const auto other = std::ranges::find_if(
          files, [&](DataKind k) { return k != first; }, kind);
      other != files.end())
    fail("{}: the folder {} has {} and {} ({} and {}); put one kind into it", key, path, names[at(first)],
         names[at(kind(*other))], files.front(), *other);
  for (const std::string& file : files) require_known(file, key);
  return files;
}

}  // namespace muonp::core
