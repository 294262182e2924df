// Small Hugging Face folders, written byte by byte and not by the code under test.
#pragma once

#include <cstring>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/autograd/parameter.h"
#include "core/base/dtype.h"
#include "tests/support/temporary_folder.h"

namespace muonp::test {

using nlohmann::json;

// Element i of a tensor. Eight bits of precision, so that every type of weights has it exactly.
inline float weight_value(std::size_t name_hash, std::int64_t i) {
  const std::size_t mixed = name_hash * 31 + static_cast<std::size_t>(i) * 2654435761u;
  return static_cast<float>(static_cast<int>(mixed >> 7 & 0xff) - 128) / 64;
}
inline float weight_value(const std::string& tensor, std::int64_t i) {
  return weight_value(std::hash<std::string>()(tensor), i);
}

template <class T>
std::string bytes_of(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

inline std::string stored(float value, const std::string& type) {
  if (type == "F32") return bytes_of(value);
  if (type == "F64") return bytes_of(static_cast<double>(value));
  if (type == "BF16") return bytes_of(core::bfloat16(value).bits);
  if (type == "F16") return bytes_of(core::float16(value).bits);
  return bytes_of(static_cast<std::uint8_t>(value));  // whatever else it is called
}

struct TensorInFile {
  std::string name, type;
  core::Shape shape;
  bool transposed = false;  // the file's element i is element (i % rows, i / rows) of the values
};

inline std::string data_of(const TensorInFile& t) {
  std::string data;
  const std::size_t name = std::hash<std::string>()(t.name);
  const std::int64_t rows = t.transposed ? t.shape[1] : 1, columns = t.transposed ? t.shape[0] : 0;
  for (std::int64_t i = 0; i < core::element_count(t.shape); ++i)
    data += stored(weight_value(name, t.transposed ? i % rows * columns + i / rows : i), t.type);
  return data;
}

inline std::string zeros_of(const TensorInFile& t) {
  return std::string(static_cast<std::size_t>(core::element_count(t.shape)) * stored(0, t.type).size(), '\0');
}

inline std::string safetensors_bytes(const std::vector<TensorInFile>& tensors, bool zeros = false) {
  json header = {{"__metadata__", {{"format", "pt"}}}};
  std::string data;
  for (const TensorInFile& t : tensors) {
    const std::size_t begin = data.size();
    data += zeros ? zeros_of(t) : data_of(t);
    header[t.name] = {{"dtype", t.type}, {"shape", t.shape}, {"data_offsets", {begin, data.size()}}};
  }
  const std::string text = header.dump();
  return bytes_of(static_cast<std::uint64_t>(text.size())) + text + data;
}

// The configurations of tiny models of each family, as transformers 4 writes them.
inline json llama_json() {
  return {{"model_type", "llama"},    {"architectures", {"LlamaForCausalLM"}},
          {"hidden_size", 12},        {"intermediate_size", 20},
          {"num_hidden_layers", 2},   {"num_attention_heads", 3},
          {"num_key_value_heads", 1}, {"max_position_embeddings", 32},
          {"vocab_size", 11},         {"rms_norm_eps", 1e-6},
          {"rope_theta", 5000.0},     {"rope_scaling", nullptr},
          {"hidden_act", "silu"},     {"tie_word_embeddings", false},
          {"attention_bias", false},  {"initializer_range", 0.02},
          {"torch_dtype", "float32"}, {"transformers_version", "4.56.0"},
          {"use_cache", true},        {"bos_token_id", 1}};
}

inline json gpt2_json() {
  return {{"model_type", "gpt2"}, {"n_layer", 2},
          {"n_head", 2},          {"n_embd", 8},
          {"n_positions", 16},    {"vocab_size", 11},
          {"resid_pdrop", 0.1},   {"activation_function", "gelu_new"},
          {"n_inner", nullptr},   {"torch_dtype", "float32"}};
}

inline void put_config(const std::string& folder, const json& config) { put(folder + "/config.json", config.dump(2)); }

}  // namespace muonp::test
