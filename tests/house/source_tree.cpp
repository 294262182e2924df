#include "tests/house/source_tree.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>

namespace muonp::test {

namespace fs = std::filesystem;

namespace {

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

std::vector<SourceFile> sources_of(std::initializer_list<std::string> folders) {
  const std::set<std::string> endings = {".h", ".cpp", ".cu"};
  const fs::path top = MUONP_SOURCE_FOLDER;
  std::vector<SourceFile> files;
  for (const std::string& folder : folders)
    for (const auto& entry : fs::recursive_directory_iterator(top / folder))
      if (endings.contains(entry.path().extension().string()))
        files.push_back({entry.path().lexically_relative(top).generic_string(), read(entry.path())});
  std::ranges::sort(files, {}, &SourceFile::path);
  return files;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> includes_of(const SourceFile& file) {
  static const std::regex quoted(R"re(^\s*#\s*include\s*"([^"]+)")re");
  std::vector<std::string> included;
  std::smatch match;
  for (const std::string& line : lines_of(file.text))
    if (std::regex_search(line, match, quoted)) included.push_back(match[1]);
  return included;
}

std::string floor_of(const std::string& path) {
  const std::size_t first = path.find('/');
  if (first == std::string::npos) return path;
  return path.substr(0, path.find_first_of("/.", first + 1));
}

}  // namespace muonp::test
