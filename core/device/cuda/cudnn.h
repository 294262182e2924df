// cuDNN's backend API, as far as a graph of operations needs it. The library is loaded when it is first used, so that the
// program starts without it. Failures are Errors that quote cuDNN and name the device.
#pragma once

#include <cudnn_graph.h>

#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "core/device/cuda/handle.h"

namespace muonp::core::cuda::cudnn {

struct Api {
  decltype(&cudnnGetVersion) version;
  decltype(&cudnnGetErrorString) error_string;
  decltype(&cudnnGetLastErrorString) last_error_string;
  decltype(&cudnnCreate) create;
  decltype(&cudnnDestroy) destroy;
  decltype(&cudnnSetStream) set_stream;
  decltype(&cudnnBackendCreateDescriptor) create_descriptor;
  decltype(&cudnnBackendDestroyDescriptor) destroy_descriptor;
  decltype(&cudnnBackendSetAttribute) set_attribute;
  decltype(&cudnnBackendGetAttribute) get_attribute;
  decltype(&cudnnBackendFinalize) finalize;
  decltype(&cudnnBackendExecute) execute;
};

// Why this process has no cuDNN that can be used (not found, too old), or an empty string.
const std::string& refusal();
std::string version();  // "9.19.0"
const Api& api();       // Error where refusal() says why

inline cudnnStatus_t destroy_library(cudnnHandle_t handle) { return api().destroy(handle); }
inline cudnnStatus_t destroy_descriptor(cudnnBackendDescriptor_t d) { return api().destroy_descriptor(d); }

using Library = Handle<cudnnHandle_t, &destroy_library>;
Library make_library(cudaStream_t stream);

// Attributes are set one by one, then finalize() makes it usable.
class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type);
  Descriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count,
                  const void* values);
  template <class T>
  Descriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const T& value) {
    return set(name, type, 1, &value);
  }
  template <class T>
  Descriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const std::vector<T>& values) {
    return set(name, type, static_cast<std::int64_t>(values.size()), values.data());
  }
  Descriptor& set(cudnnBackendAttributeName_t name, const Descriptor& value) {
    return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, value.get());
  }
  Descriptor& finalize();
  cudnnBackendDescriptor_t get() const { return handle_.get(); }

 private:
  cudnnBackendDescriptorType_t type_;
  Handle<cudnnBackendDescriptor_t, &destroy_descriptor> handle_;
};

using Sizes = std::vector<std::int64_t>;

// A value of a graph: in memory that run() is given, inside the graph only, or a number that the graph holds.
struct Value {
  std::int64_t id;
  Sizes dims, strides;
  const Descriptor* descriptor;
};

class Graph {
 public:
  Value tensor(cudnnDataType_t type, const Sizes& dims, const Sizes& strides);
  Value tensor(cudnnDataType_t type, const Sizes& dims);  // dense, row-major
  Value inner(cudnnDataType_t type, const Sizes& dims, const Sizes& strides);
  Value inner(cudnnDataType_t type, const Sizes& dims);
  Value number(float value);  // of four dimensions

  void matmul(const Value& a, const Value& b, const Value& c);  // C = A·B over the last two dimensions
  void reduce(cudnnReduceTensorOp_t operation, const Value& x, const Value& y);
  void turn(const Value& x, const Value& y);  // y is x with the last two dimensions exchanged
  // y = mode(x, b); computed in float32, or in bool where y is that. The results' overloads make y, shaped as x.
  void pointwise(cudnnPointwiseMode_t mode, const Value& x, const Value& b, const Value& y);
  Value pointwise(cudnnPointwiseMode_t mode, const Value& x, const Value& b, cudnnDataType_t type = CUDNN_DATA_FLOAT);
  Value pointwise(cudnnPointwiseMode_t mode, const Value& x);
  Value index(const Value& x, std::int64_t axis);                            // int32
  Value select(const Value& x, const Value& otherwise, const Value& valid);  // valid ? x : otherwise

  // Ends the graph: takes the first of cuDNN's engines for it, in the order it recommends them. Costs the host about a
  // second. Error where none takes it.
  void plan(cudnnHandle_t library);
  std::int64_t workspace() const { return workspace_; }  // bytes
  void run(cudnnHandle_t library, const std::vector<std::pair<const Value*, void*>>& tensors, void* workspace) const;

 private:
  enum class Kind : std::uint8_t { tensor, inner, number };
  struct Pointwise {
    cudnnPointwiseMode_t mode;
    const Value *x, *b, *t, *y;
    cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    std::int64_t axis = -1;
  };
  Value make(cudnnDataType_t type, const Sizes& dims, const Sizes& strides, Kind kind);
  void add(const Pointwise& p);
  Descriptor& operation(cudnnBackendDescriptorType_t type) { return operations_.emplace_back(type); }
  std::deque<Descriptor> engines(cudnnBackendHeurMode_t mode) const;
  bool try_engine(cudnnHandle_t library, const Descriptor& engine, std::string& reasons);

  std::deque<Descriptor> kept_, operations_, graph_, plan_;  // in the order of use; of graph_ and plan_ the last counts
  std::deque<std::pair<std::int64_t, float>> numbers_;
  std::int64_t next_id_ = 1, workspace_ = 0;
};

}  // namespace muonp::core::cuda::cudnn
