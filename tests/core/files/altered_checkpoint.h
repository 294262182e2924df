// A small checkpoint of two ranks as the program writes it, for tests that alter it, and what opening one
// takes.
#pragma once

#include <string>
#include <vector>

namespace muonp::test {

// <directory>/step-<step>: state-00000.safetensors and state-00001.safetensors with the halves of three
// tensors whose values depend on the step, and the manifest. Returns its path.
std::string save_small_checkpoint(const std::string& directory, std::int64_t step);

// Opens a checkpoint as a run that resumes does, and reads every element of every tensor. Throws what that
// throws.
void read_checkpoint(const std::string& path);

// Gives the manifest the sizes and checksums that the files have now, and its own, so that what is behind the
// checksums is reached.
void sign_checkpoint(const std::string& path);

}  // namespace muonp::test
