#include "launch/train/run_reading.h"

#include <stdlib.h>

#include <algorithm>
#include <filesystem>

#include "core/base/error.h"
#include "core/data/data_files.h"
#include "core/files/files.h"

namespace muonp::launch {

namespace fs = std::filesystem;

std::string located(const std::string& path, const std::string& folder) {
  const std::string there = (fs::path(folder) / path).string();
  return !path.empty() && !folder.empty() && core::exists(there) ? there : path;
}

namespace {

// Of a model file, and of a folder of Hugging Face's.
constexpr const char* kTokenizerCopy = "/tokenizer.model";
constexpr const char* kTokenizerFolder = "/tokenizer";

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::error_code none;
    path_ = (fs::temp_directory_path(none) / "muonp-XXXXXX").string();
    if (none || ::mkdtemp(path_.data()) == nullptr)
      core::fail("no temporary folder can be made as {}; TMPDIR names another place", path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Of text and of JSONL, in the folders where `muonp train` puts them.
std::vector<std::string> token_files(const std::string& run_directory, const std::string& cache) {
  std::vector<std::string> files;
  for (const std::string& folder : {run_directory, cache})
    if (!folder.empty() && core::is_directory(folder))
      for (const std::string& name : core::list_directory(folder))
        if ((name.starts_with("tokens-") && name.ends_with(".bin")) || name.ends_with(".examples"))
          files.push_back(folder + "/" + name);
  return files;
}

// What the identity says of a file of ids. Of a token file only where their number is the same, which is soon known.
bool has_content(const std::string& file, const std::string& content) {
  if (core::data_kind(file) == core::DataKind::examples) return describe_examples(core::ExampleStore(file)) == content;
  const auto tokens = core::TokenSource::from_token_files({file});
  return content.starts_with(fmt::format("{} ", tokens.size())) && describe_tokens(tokens) == content;
}

// The file whose ids are those that the identity has under `key`; `path` if there is none.
std::string found_by_content(const std::string& path, const std::vector<std::string>& files, const RunIdentity& identity,
                             const std::string& key) {
  const auto saved = std::ranges::find(identity.values, key, &core::NamedValue::name);
  if (path.empty() || saved == identity.values.end()) return located(path, identity.folder);
  for (const std::string& file : files)
    if (has_content(file, saved->value)) return file;
  return located(path, identity.folder);
}

}  // namespace

void keep_tokenizer(const std::string& tokenizer, const std::string& run_directory) {
  if (tokenizer == "byte") return;
  const bool folder = core::is_directory(tokenizer), json = !folder && tokenizer.ends_with(".json");
  if (!folder && !json) return void(core::write_file(run_directory + kTokenizerCopy, core::read_file(tokenizer)));
  const std::string from = folder ? tokenizer : core::parent_directory(tokenizer), to = run_directory + kTokenizerFolder;
  core::make_directories(to);
  for (const std::string& name : core::tokenizer_files(from))
    core::write_file(to + "/" + name, core::read_file(from + "/" + name));
  if (json) core::write_file(to + "/tokenizer.json", core::read_file(tokenizer));
}

std::string kept_tokenizer(const std::string& run_directory) {
  for (const char* name : {kTokenizerCopy, kTokenizerFolder})
    if (core::exists(run_directory + name)) return run_directory + name;
  return {};
}

core::DataConfig located_data(core::DataConfig data, const std::string& run_directory, const RunIdentity& identity) {
  if (data.tokenizer != "byte") {
    const std::string kept = kept_tokenizer(run_directory);
    data.tokenizer = kept.empty() ? located(data.tokenizer, identity.folder) : kept;
  }
  data.cache = located(data.cache, identity.folder);
  const std::vector<std::string> files = token_files(run_directory, data.cache);
  data.train = found_by_content(data.train, files, identity, "data.train");
  data.validation = found_by_content(data.validation, files, identity, "data.validation");
  for (std::size_t i = 0; i < data.mix.size(); ++i)
    data.mix[i].file = found_by_content(data.mix[i].file, files, identity, fmt::format("data.mix.{}.file", i));
  data.chat_template = located(data.chat_template, identity.folder);
  return data;
}

core::Dataset read_dataset(core::DataConfig data, const std::string& run_directory, std::int64_t vocabulary,
                           const core::Poll& poll) {
  const TemporaryFolder folder;
  for (const std::string& file : token_files(run_directory, data.cache)) {
    const fs::path link = folder.path() / fs::path(file).filename();
    if (!fs::exists(link)) fs::create_symlink(fs::absolute(file), link);
  }
  data.cache = folder.path();
  // Its files are mapped, and stay so without their names.
  return core::open_dataset(data, core::prepare_dataset(data, run_directory, vocabulary, {.poll = poll}));
}

}  // namespace muonp::launch
