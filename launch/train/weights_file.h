// A model's weights alone, as one safetensors file that any library of that format reads: each parameter
// whole, under its own name, in its own shape, float32 or bfloat16.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "core/files/checkpoint_store.h"
#include "core/files/safetensors.h"
#include "launch/train/run_identity.h"

namespace muonp::launch {

// Writes the master weights of a checkpoint, rounded to nearest for bfloat16, block by block: memory does not
// grow with the model. `written` gets the elements written so far. Error: some element is in no file; as
// AtomicFile. Returns the size of the file [bytes].
std::int64_t export_weights(const core::Checkpoint& checkpoint, const std::string& file, core::Dtype dtype,
                            const std::function<void(std::int64_t)>& written = {});
std::int64_t weight_elements(const core::Checkpoint& checkpoint);

// Reads such a file, also of another program's making.
class WeightsFile {
 public:
  explicit WeightsFile(const std::string& path) : reader_(path) {}
  std::int64_t step() const;     // of the checkpoint; 0 if the file does not say
  RunIdentity identity() const;  // of the checkpoint; without values if the file does not say
  std::set<std::string> names() const;
  // Elements [begin, begin + count), converted to float32 (exactly). Error: the file lacks the name, or has another shape or
  // type.
  void read(const std::string& name, const core::Shape& shape, std::int64_t begin, std::int64_t count, float* to) const;

 private:
  core::SafetensorsReader reader_;
};

}  // namespace muonp::launch
