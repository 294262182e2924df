// Adapters as PEFT keeps them: a folder with adapter_config.json and adapter_model.safetensors.
#pragma once

#include <map>
#include <string>

#include "core/autograd/parameter.h"
#include "core/files/safetensors.h"
#include "models/registry.h"

namespace muonp::models {

inline constexpr const char* kAdapterConfig = "adapter_config.json";
inline constexpr const char* kAdapterFile = "adapter_model.safetensors";

// `given` with what the adapter_config.json of given.from says: rank, alpha, dropout, modules. A dropout that is given
// stays. Error names the file and the key: what is not supported, or a key given here that has another value there.
LoraConfig with_adapters(const LoraConfig& given);

// The text of an adapter_config.json of this model, whose adapters are among `parameters`. base: the folder they go with.
std::string write_adapter_config(const ModelConfig& model, const core::ParameterList& parameters, const std::string& base);

// What a factor is called in the file: "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight".
std::string peft_name(std::string_view family, const core::Parameter& factor);

class AdapterWeights {
 public:
  // `parameters`: of the model; all its factors, and no others, have to be in the folder's file. Error names the tensor.
  AdapterWeights(const std::string& folder, const ModelConfig& model, const core::ParameterList& parameters);
  // As PretrainedWeights::read(), of a factor.
  void read(const core::Parameter& factor, std::int64_t begin, std::int64_t count, float* to) const;

 private:
  void require_no_others() const;

  core::SafetensorsReader file_;
  std::map<std::string, const core::SafetensorsReader::Entry*> entries_;  // by parameter
};

}  // namespace muonp::models
