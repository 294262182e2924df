#include "core/device/cuda/cudnn.h"

#include <dlfcn.h>

#include "core/base/error.h"

namespace muonp::core::cuda::cudnn {

namespace {

constexpr const char* kFile = "libcudnn.so.9";
// Older ones have faults in the gradient of attention over lengths that 128 does not divide (NVIDIA's frontend works
// around them).
constexpr std::size_t kLeastVersion = 91501;

std::string text_of(std::size_t version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

struct Loaded {
  Api api{};
  std::string refusal;

  Loaded() {
    void* file = dlopen(kFile, RTLD_NOW | RTLD_LOCAL);
    if (!file) {
      refusal = fmt::format("{} cannot be loaded: {}", kFile, dlerror());
      return;
    }
    const auto load = [&](const char* name, auto& function) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(file, name));
      if (!function) refusal = fmt::format("{} has no {}", kFile, name);
    };
    load("cudnnGetVersion", api.version);
    load("cudnnGetErrorString", api.error_string);
    load("cudnnGetLastErrorString", api.last_error_string);
    load("cudnnCreate", api.create);
    load("cudnnDestroy", api.destroy);
    load("cudnnSetStream", api.set_stream);
    load("cudnnBackendCreateDescriptor", api.create_descriptor);
    load("cudnnBackendDestroyDescriptor", api.destroy_descriptor);
    load("cudnnBackendSetAttribute", api.set_attribute);
    load("cudnnBackendGetAttribute", api.get_attribute);
    load("cudnnBackendFinalize", api.finalize);
    load("cudnnBackendExecute", api.execute);
    if (refusal.empty() && api.version() < kLeastVersion)
      refusal = fmt::format("cuDNN {} is too old; {} or newer is needed", text_of(api.version()), text_of(kLeastVersion));
  }
};

const Loaded& loaded() {
  static const Loaded library;  // for as long as the process: its threads may still run when others end
  return library;
}

void check(cudnnStatus_t status, const std::string& what) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  char reason[1024] = "";
  api().last_error_string(reason, sizeof reason);
  fail("cuDNN {} cannot {} on {}: {} ({})", version(), what, context(), api().error_string(status), reason);
}

Sizes dense(const Sizes& dims) {
  Sizes strides(dims.size(), 1);
  for (std::size_t i = dims.size() - 1; i > 0; --i) strides[i - 1] = strides[i] * dims[i];
  return strides;
}

}  // namespace

const std::string& refusal() { return loaded().refusal; }

const Api& api() {
  if (!refusal().empty()) fail("cuDNN: {}", refusal());
  return loaded().api;
}

std::string version() { return text_of(api().version()); }

Library make_library(cudaStream_t stream) {
  cudnnHandle_t handle = nullptr;
  check(api().create(&handle), "start");
  Library library(handle);
  check(api().set_stream(handle, stream), "take a stream");
  return library;
}

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) : type_(type) {
  cudnnBackendDescriptor_t d = nullptr;
  check(api().create_descriptor(type, &d), fmt::format("make descriptor {}", static_cast<int>(type)));
  handle_ = Handle<cudnnBackendDescriptor_t, &destroy_descriptor>(d);
}

Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count,
                            const void* values) {
  check(api().set_attribute(get(), name, type, count, values),
        fmt::format("set attribute {} of descriptor {}", static_cast<int>(name), static_cast<int>(type_)));
  return *this;
}

Descriptor& Descriptor::finalize() {
  check(api().finalize(get()), fmt::format("finalize descriptor {}", static_cast<int>(type_)));
  return *this;
}

Value Graph::make(cudnnDataType_t type, const Sizes& dims, const Sizes& strides, Kind kind) {
  constexpr std::int64_t kAlignment = 16;  // bytes
  Descriptor& d = kept_.emplace_back(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  const Value value{next_id_++, dims, strides, &d};
  d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type);
  d.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, dims);
  d.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, strides);
  d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, value.id);
  d.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, kAlignment);
  d.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, kind == Kind::inner);
  d.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, kind == Kind::number);
  d.finalize();
  return value;
}

Value Graph::tensor(cudnnDataType_t type, const Sizes& dims, const Sizes& strides) {
  return make(type, dims, strides, Kind::tensor);
}
Value Graph::tensor(cudnnDataType_t type, const Sizes& dims) { return tensor(type, dims, dense(dims)); }
Value Graph::inner(cudnnDataType_t type, const Sizes& dims, const Sizes& strides) {
  return make(type, dims, strides, Kind::inner);
}
Value Graph::inner(cudnnDataType_t type, const Sizes& dims) { return inner(type, dims, dense(dims)); }

Value Graph::number(float value) {
  const Value v = make(CUDNN_DATA_FLOAT, {1, 1, 1, 1}, {1, 1, 1, 1}, Kind::number);
  numbers_.emplace_back(v.id, value);
  return v;
}

void Graph::matmul(const Value& a, const Value& b, const Value& c) {
  Descriptor& how = kept_.emplace_back(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  how.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT).finalize();
  operation(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR)
      .set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, *a.descriptor)
      .set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, *b.descriptor)
      .set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, *c.descriptor)
      .set(CUDNN_ATTR_OPERATION_MATMUL_DESC, how)
      .finalize();
}

void Graph::reduce(cudnnReduceTensorOp_t mode, const Value& x, const Value& y) {
  Descriptor& how = kept_.emplace_back(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  how.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  how.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, mode).finalize();
  operation(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR)
      .set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, how)
      .set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, *x.descriptor)
      .set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, *y.descriptor)
      .finalize();
}

void Graph::turn(const Value& x, const Value& y) {
  operation(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR)
      .set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, *x.descriptor)
      .set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, *y.descriptor)
      .finalize();
}

void Graph::add(const Pointwise& p) {
  Descriptor& how = kept_.emplace_back(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  how.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, p.mode);
  how.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, p.compute);
  if (p.axis >= 0) how.set(CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, p.axis);
  how.finalize();
  Descriptor& op = operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  op.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
  op.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, *p.x->descriptor);
  if (p.b) op.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *p.b->descriptor);
  if (p.t) op.set(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, *p.t->descriptor);
  op.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, *p.y->descriptor).finalize();
}

void Graph::pointwise(cudnnPointwiseMode_t mode, const Value& x, const Value& b, const Value& y) {
  add({mode, &x, &b, nullptr, &y});
}

Value Graph::pointwise(cudnnPointwiseMode_t mode, const Value& x, const Value& b, cudnnDataType_t type) {
  const Value y = inner(type, x.dims);
  add({mode, &x, &b, nullptr, &y, type == CUDNN_DATA_BOOLEAN ? CUDNN_DATA_BOOLEAN : CUDNN_DATA_FLOAT});
  return y;
}

Value Graph::pointwise(cudnnPointwiseMode_t mode, const Value& x) {
  const Value y = inner(CUDNN_DATA_FLOAT, x.dims);
  add({mode, &x, nullptr, nullptr, &y});
  return y;
}

Value Graph::index(const Value& x, std::int64_t axis) {
  const Value y = inner(CUDNN_DATA_INT32, x.dims);
  add({CUDNN_POINTWISE_GEN_INDEX, &x, nullptr, nullptr, &y, CUDNN_DATA_FLOAT, axis});
  return y;
}

Value Graph::select(const Value& x, const Value& otherwise, const Value& valid) {
  const Value y = inner(CUDNN_DATA_FLOAT, x.dims);
  add({CUDNN_POINTWISE_BINARY_SELECT, &x, &otherwise, &valid, &y});
  return y;
}

std::deque<Descriptor> Graph::engines(cudnnBackendHeurMode_t mode) const {
  Descriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph_.back());
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode).finalize();
  std::int64_t count = 0;
  const auto results = [&](std::int64_t room, void* to) {
    check(
        api().get_attribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, room, &count, to),
        "recommend engines");
  };
  results(0, nullptr);
  std::deque<Descriptor> found;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (std::int64_t i = 0; i < count; ++i) raw.push_back(found.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR).get());
  results(count, raw.data());
  while (static_cast<std::int64_t>(found.size()) > count) found.pop_back();
  return found;
}

bool Graph::try_engine(cudnnHandle_t library, const Descriptor& engine, std::string& reasons) {
  try {
    Descriptor& plan = plan_.emplace_back(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, library);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, engine).finalize();
    std::int64_t count = 0;
    check(
        api().get_attribute(plan.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count, &workspace_),
        "tell a plan's workspace");
    return true;
  } catch (const Error& e) {
    reasons += fmt::format("; {}", e.what());
    return false;
  }
}

void Graph::plan(cudnnHandle_t library) {
  std::vector<cudnnBackendDescriptor_t> operations;
  for (const Descriptor& op : operations_) operations.push_back(op.get());
  Descriptor& graph = graph_.emplace_back(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, operations);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, library).finalize();
  std::string reasons;
  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK})
    for (const Descriptor& engine : engines(mode))
      if (try_engine(library, engine, reasons)) return;
  fail(
      "cuDNN {} has no engine for a graph of {} operations on {}{}; CUDNN_LOGLEVEL_DBG=2 CUDNN_LOGDEST_DBG=stderr "
      "shows its reasons",
      version(), operations_.size(), context(), reasons);
}

void Graph::run(cudnnHandle_t library, const std::vector<std::pair<const Value*, void*>>& tensors, void* workspace) const {
  Sizes ids;
  std::vector<const void*> data;
  for (const auto& [value, pointer] : tensors) ids.push_back(value->id), data.push_back(pointer);
  for (const auto& [id, value] : numbers_) ids.push_back(id), data.push_back(&value);
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, ids);
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, data);
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace).finalize();
  check(api().execute(library, plan_.back().get(), pack.get()), "run a graph");
}

}  // namespace muonp::core::cuda::cudnn
