// Where the bytes written to a path end up. A link is followed: what it leads to is replaced, not the link. A pipe or a
// device is written to as it is, and so is the file that this process's standard output or error goes to.
#pragma once

#include <string>

namespace muonp::core {

struct OutputTarget {
  // The regular file, which need not exist, at the end of the links; or, for what is written to as it is, a name in the
  // system's folder for temporary files.
  std::string path;
  int descriptor = -1;  // of what is written to as it is, open; the caller closes it
};

// Error: a folder, no permission for a pipe or a device, links that lead in a circle. Waits until a named pipe is read.
OutputTarget open_output(const std::string& path);

// Writes the content of `file` to the descriptor. Errors name `path`, which it was opened as.
void copy_into(int descriptor, const std::string& file, const std::string& path);

}  // namespace muonp::core
