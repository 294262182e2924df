// The project's sources as text.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

namespace muonp::test {

struct SourceFile {
  std::string path;  // from the top of the repository: "core/base/error.h"
  std::string text;
  bool is_header() const { return path.ends_with(".h"); }
};

inline const std::initializer_list<std::string> kProgram = {"core", "dist", "optim", "models", "launch"};

// C++ and CUDA files of these folders of the repository, in order of their paths.
std::vector<SourceFile> sources_of(std::initializer_list<std::string> folders);

std::vector<std::string> lines_of(const std::string& text);

// What a file includes in quotation marks, in order.
std::vector<std::string> includes_of(const SourceFile& file);

// The floor of a file or of what is included: the two first parts of its path ("core/base"), of models/model.h
// "models/model".
std::string floor_of(const std::string& path);

}  // namespace muonp::test
