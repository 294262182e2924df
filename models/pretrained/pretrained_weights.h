// Weights of a Hugging Face folder as the initial values of a model. Every rank asks for the parts that it keeps: only these
// are read, and memory does not grow with what was read.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/autograd/parameter.h"
#include "models/pretrained/folder_tensors.h"
#include "models/registry.h"

namespace muonp::models {

// A tensor of a folder, and the parameter that it is.
struct PretrainedTensor {
  std::string tensor, parameter;
  core::StoredType type = core::StoredType::f32;
  bool transposed = false;  // in the file
  bool operator==(const PretrainedTensor&) const = default;
};

// Error names the file and the tensor, where it is no float of this program.
void require_float(const core::SafetensorsReader& file, const core::SafetensorsReader::Entry& entry);
// Elements [begin, begin + count) of a tensor of floats as they lie in the file, converted to float32.
void read_elements(const core::SafetensorsReader::Entry& entry, std::int64_t begin, std::int64_t count, float* to);

class PretrainedWeights {
 public:
  // `model` is what read_hf_config() made of the folder, `parameters` its model's. Error, with the file and every tensor
  // that is concerned: one is missing, has another shape (both are named) or a type that is no float, or is none of this
  // model's. Extra tensors are fine where they are no weights (models/pretrained/hf_names.h), or the head of a model whose
  // head is its embedding; where that is read, the two must be equal.
  PretrainedWeights(const std::string& folder, const ModelConfig& model, const core::ParameterList& parameters);

  // Elements [begin, begin + count) of the parameter, row-major, converted to float32: exactly, but for F64, which is
  // rounded to nearest. A core::WeightFiller.
  void read(const core::Parameter& parameter, std::int64_t begin, std::int64_t count, float* to) const;

  // In the order of the parameters; a tied head that is in the folder follows its embedding.
  const std::vector<PretrainedTensor>& tensors() const { return tensors_; }
  // What tells these weights from others, wherever they lie: "272 tensors, hash 5be1a07d2c3f4e61", of names, types, shapes
  // and samples of the data. Reads up to 12 KiB of each tensor.
  std::string identity() const;

 private:
  struct Source {
    std::vector<FolderTensors::Tensor> tensors;  // the parameter, more than once where a tied head is in the folder too
    bool transposed = false;
  };
  void add(const core::Parameter& parameter, const FolderTensors::Tensor& found, bool transposed);

  FolderTensors files_;
  std::vector<PretrainedTensor> tensors_;
  std::map<std::string, Source> sources_;  // by parameter
};

}  // namespace muonp::models
