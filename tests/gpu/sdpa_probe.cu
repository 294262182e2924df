// Does this machine's cuDNN fuse causal attention, how exactly, how fast, and does it repeat? A program of its own, that
// needs a GPU and libcudnn alone; it prints one line for each case, and on a failure what cuDNN says of it
// (its log is sdpa_probe.log).
//
//   nvcc -std=c++20 -O2 -arch=sm_90 tests/gpu/sdpa_probe.cu -o sdpa_probe -I<cudnn>/include -L<cudnn>/lib -l:libcudnn.so.9
//   LD_LIBRARY_PATH=<cudnn>/lib ./sdpa_probe [--quick] [--only PART_OF_A_NAME] [--device-json FILE]
//
// The graphs are those of scaled dot-product attention with a causal mask: a product, a scale, a mask, a softmax, a product;
// cuDNN 9 recognises them and runs one kernel (the backward graph: three). Its one-operation descriptors
// (CUDNN_BACKEND_OPERATION_SDPA_FWD and _BWD) have no attribute for a mask before 9.21 and are not tried.
// With --device-json, plans are made for the GPU that the file describes (as a run prints it) and nothing is executed.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <cudnn.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using Ints = std::vector<std::int64_t>;

// cuDNN's reasons, from its log, for what it refused since the last call.
std::string reasons() {
  static std::ifstream log(std::getenv("CUDNN_LOGDEST_DBG"));
  std::string all, line;
  log.clear();
  while (std::getline(log, line))
    if (const std::size_t at = line.find("Reason: ");
        at != std::string::npos && all.find(line.substr(at)) == std::string::npos)
      all += "      | " + line.substr(line.find_first_not_of("wi! ")) + "\n";
  return all.substr(0, 8000);
}

[[noreturn]] void fail(const std::string& what, cudnnStatus_t status) {
  char last[4096] = "";
  cudnnGetLastErrorString(last, sizeof last);
  throw std::runtime_error(what + ": " + cudnnGetErrorString(status) + "; " + last);
}

void check(cudnnStatus_t status, const std::string& what) {
  if (status != CUDNN_STATUS_SUCCESS) fail(what, status);
}

void check(cudaError_t status, const std::string& what) {
  if (status != cudaSuccess) throw std::runtime_error(what + ": " + cudaGetErrorString(status));
}

// A descriptor of cuDNN's backend.
class Descriptor {
 public:
  Descriptor(cudnnBackendDescriptorType_t type, std::string name) : name_(std::move(name)) {
    cudnnBackendDescriptor_t d = nullptr;
    check(cudnnBackendCreateDescriptor(type, &d), name_ + ": create");
    handle_.reset(d);
  }
  template <class T>
  Descriptor& set(cudnnBackendAttributeName_t attribute, cudnnBackendAttributeType_t type, const std::vector<T>& values) {
    check(cudnnBackendSetAttribute(handle_.get(), attribute, type, std::int64_t(values.size()), values.data()),
          name_ + ": attribute " + std::to_string(attribute));
    return *this;
  }
  template <class T>
  Descriptor& set(cudnnBackendAttributeName_t attribute, cudnnBackendAttributeType_t type, T value) {
    return set(attribute, type, std::vector<T>{value});
  }
  Descriptor& set(cudnnBackendAttributeName_t attribute, bool value) {
    check(cudnnBackendSetAttribute(handle_.get(), attribute, CUDNN_TYPE_BOOLEAN, 1, &value),
          name_ + ": attribute " + std::to_string(attribute));
    return *this;
  }
  Descriptor& set(cudnnBackendAttributeName_t attribute, const Descriptor& other) {
    return set(attribute, CUDNN_TYPE_BACKEND_DESCRIPTOR, other.get());
  }
  Descriptor& finalize() {
    check(cudnnBackendFinalize(handle_.get()), name_ + ": finalize");
    return *this;
  }
  cudnnBackendDescriptor_t get() const { return handle_.get(); }

 private:
  struct Destroy {
    void operator()(void* d) const { cudnnBackendDestroyDescriptor(d); }
  };
  std::string name_;
  std::unique_ptr<void, Destroy> handle_;
};

// What plans are made for: a handle's device, or (without a GPU) a described one.
struct Target {
  cudnnHandle_t handle = nullptr;
  std::unique_ptr<Descriptor> device;
};

struct Tensor {
  std::int64_t id;
  Ints dims, strides;
  cudnnDataType_t type;
  std::shared_ptr<Descriptor> descriptor;
};

Ints packed(const Ints& dims) {
  Ints strides(dims.size(), 1);
  for (std::size_t i = dims.size() - 1; i > 0; --i) strides[i - 1] = strides[i] * dims[i];
  return strides;
}

// A graph of operations, its plan, and the numbers that it takes by value.
class Graph {
 public:
  enum class Kind { real, inner, number };

  Tensor tensor(cudnnDataType_t type, Ints dims, Ints strides, Kind kind = Kind::real) {
    Tensor t{next_id_++, std::move(dims), std::move(strides), type, nullptr};
    t.descriptor = std::make_shared<Descriptor>(CUDNN_BACKEND_TENSOR_DESCRIPTOR, "tensor " + std::to_string(t.id));
    Descriptor& d = *t.descriptor;
    d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type);
    d.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, t.dims);
    d.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, t.strides);
    d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, t.id);
    d.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, std::int64_t{16});
    d.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, kind == Kind::inner);
    d.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, kind == Kind::number);
    d.finalize();
    return t;
  }
  Tensor inner(cudnnDataType_t type, const Ints& dims) { return tensor(type, dims, packed(dims), Kind::inner); }
  Tensor number(float value) { return number(CUDNN_DATA_FLOAT, &value); }
  Tensor number(std::int32_t value) { return number(CUDNN_DATA_INT32, &value); }

  void matmul(const Tensor& a, const Tensor& b, const Tensor& c) {
    Descriptor& how = keep(CUDNN_BACKEND_MATMUL_DESCRIPTOR, "matmul");
    how.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT).finalize();
    Descriptor& op = operation(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, "operation matmul");
    op.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, *a.descriptor);
    op.set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, *b.descriptor);
    op.set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, *c.descriptor);
    op.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, how).finalize();
  }

  struct Pointwise {
    cudnnPointwiseMode_t mode;
    const Tensor *x, *b = nullptr, *t = nullptr;
    cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    std::int64_t axis = -1;
  };
  void pointwise(const Pointwise& p, const Tensor& y) {
    const std::string name = "pointwise " + std::to_string(p.mode);
    Descriptor& how = keep(CUDNN_BACKEND_POINTWISE_DESCRIPTOR, name);
    how.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, p.mode);
    how.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, p.compute);
    if (p.axis >= 0) how.set(CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, p.axis);
    how.finalize();
    Descriptor& op = operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, "operation " + name);
    op.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    op.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, *p.x->descriptor);
    if (p.b) op.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *p.b->descriptor);
    if (p.t) op.set(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, *p.t->descriptor);
    op.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, *y.descriptor).finalize();
  }
  Tensor pointwise(const Pointwise& p, cudnnDataType_t type = CUDNN_DATA_FLOAT) {
    const Tensor y = inner(type, p.x->dims);
    pointwise(p, y);
    return y;
  }

  void reduce(cudnnReduceTensorOp_t mode, const Tensor& x, const Tensor& y) {
    Descriptor& how = keep(CUDNN_BACKEND_REDUCTION_DESCRIPTOR, "reduction");
    how.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    how.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, mode).finalize();
    Descriptor& op = operation(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, "operation reduction");
    op.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
    op.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, *x.descriptor);
    op.set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, *y.descriptor).finalize();
  }

  void reshape(const Tensor& x, const Tensor& y) {
    Descriptor& op = operation(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, "operation reshape");
    op.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, *x.descriptor);
    op.set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, *y.descriptor).finalize();
  }

  // Chooses an engine and makes its plan. Returns a line about it.
  std::string plan(const Target& target) {
    const auto start = std::chrono::steady_clock::now();
    graph_ = std::make_unique<Descriptor>(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "graph");
    std::vector<cudnnBackendDescriptor_t> operations;
    for (const auto& op : operations_) operations.push_back(op->get());
    graph_->set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, operations);
    if (target.handle) graph_->set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, target.handle);
    graph_->finalize();
    std::string refusals;
    for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK})
      if (try_engines(target, mode, refusals)) {
        const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
        char text[160];
        std::snprintf(text, sizeof text, "heuristic %d, workspace %.1f MB, planned in %.0f ms", mode,
                      1e-6 * double(workspace_), 1e3 * time.count());
        return text;
      }
    throw std::runtime_error("no engine takes the graph: " + refusals);
  }

  std::int64_t workspace() const { return workspace_; }

  void run(cudnnHandle_t handle, std::vector<std::pair<const Tensor*, void*>> tensors, void* workspace) const {
    Ints ids;
    std::vector<void*> pointers;
    for (const auto& [t, data] : tensors) ids.push_back(t->id), pointers.push_back(data);
    for (const auto& [id, value] : numbers_) ids.push_back(id), pointers.push_back(value.get());
    Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, "variant pack");
    pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, ids);
    pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, pointers);
    pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace).finalize();
    check(cudnnBackendExecute(handle, plan_->get(), pack.get()), "execute");
  }

 private:
  Tensor number(cudnnDataType_t type, const void* value) {
    Tensor t = tensor(type, {1, 1, 1, 1}, {1, 1, 1, 1}, Kind::number);
    numbers_.push_back({t.id, std::make_unique<std::int32_t>()});
    std::memcpy(numbers_.back().second.get(), value, 4);
    return t;
  }
  Descriptor& keep(cudnnBackendDescriptorType_t type, const std::string& name) {
    return *kept_.emplace_back(std::make_unique<Descriptor>(type, name));
  }
  Descriptor& operation(cudnnBackendDescriptorType_t type, const std::string& name) {
    return *operations_.emplace_back(
        std::make_unique<Descriptor>(type, name + " (" + std::to_string(operations_.size()) + ")"));
  }

  bool try_engines(const Target& target, cudnnBackendHeurMode_t mode, std::string& refusals) {
    try {
      Descriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, "heuristic " + std::to_string(mode));
      heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, *graph_);
      heuristic.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
      if (!target.handle) heuristic.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *target.device);
      heuristic.finalize();
      std::int64_t count = 0;
      check(cudnnBackendGetAttribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0,
                                     &count, nullptr),
            "heuristic: count");
      std::vector<std::unique_ptr<Descriptor>> configs;
      std::vector<cudnnBackendDescriptor_t> raw;
      for (std::int64_t i = 0; i < count; ++i) {
        configs.push_back(std::make_unique<Descriptor>(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, "engine config"));
        raw.push_back(configs.back()->get());
      }
      check(cudnnBackendGetAttribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count,
                                     &count, raw.data()),
            "heuristic: results");
      if (count == 0) refusals += "heuristic " + std::to_string(mode) + " names no engine. ";
      for (std::int64_t i = 0; i < count; ++i)
        if (try_plan(target, *configs[std::size_t(i)], refusals)) return true;
    } catch (const std::exception& e) {
      refusals += std::string(e.what()) + ". ";
    }
    return false;
  }

  bool try_plan(const Target& target, const Descriptor& config, std::string& refusals) {
    try {
      auto plan = std::make_unique<Descriptor>(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "plan");
      if (target.handle)
        plan->set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, target.handle);
      else
        plan->set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *target.device);
      plan->set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config).finalize();
      std::int64_t count = 0;
      check(cudnnBackendGetAttribute(plan->get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count,
                                     &workspace_),
            "plan: workspace");
      plan_ = std::move(plan);
      return true;
    } catch (const std::exception& e) {
      refusals += std::string(e.what()) + ". ";
      return false;
    }
  }

  std::int64_t next_id_ = 1, workspace_ = 0;
  std::vector<std::pair<std::int64_t, std::unique_ptr<std::int32_t>>> numbers_;
  std::vector<std::unique_ptr<Descriptor>> kept_, operations_;
  std::unique_ptr<Descriptor> graph_, plan_;
};

// Attention over qkv [batch, time, width + 2·kv_width], out [batch, time, width].
struct Shape {
  std::int64_t batch, time, heads, kv_heads, size, window = 0;  // window: keys a query sees, itself among them; 0 for all
  std::int64_t width() const { return heads * size; }
  std::int64_t kv_width() const { return kv_heads * size; }
  std::int64_t packed_width() const { return width() + 2 * kv_width(); }
  float scale() const { return 1.0f / std::sqrt(float(size)); }
};

// Heads of a tensor whose rows have `columns` elements, as [batch, heads, time, size] or (turned) [.., size, time].
Tensor heads_of(Graph& g, const Shape& s, cudnnDataType_t type, std::int64_t heads, std::int64_t columns,
                bool turned = false) {
  Ints dims = {s.batch, heads, s.time, s.size}, strides = {s.time * columns, s.size, columns, 1};
  if (turned) std::swap(dims[2], dims[3]), std::swap(strides[2], strides[3]);
  return g.tensor(type, dims, strides);
}

// Keys after the query, or before its window, do not count.
Tensor masked(Graph& g, const Shape& s, const Tensor& scores) {
  const auto index = [&](std::int64_t axis) {
    return g.pointwise({.mode = CUDNN_POINTWISE_GEN_INDEX, .x = &scores, .axis = axis}, CUDNN_DATA_INT32);
  };
  const auto select = [&](const Tensor& x, const Tensor& valid) {
    const Tensor none = g.number(-std::numeric_limits<float>::infinity());
    return g.pointwise({.mode = CUDNN_POINTWISE_BINARY_SELECT, .x = &x, .b = &none, .t = &valid});
  };
  const Tensor row = index(2), column = index(3);
  const Tensor seen = g.pointwise({.mode = CUDNN_POINTWISE_CMP_GE, .x = &row, .b = &column, .compute = CUDNN_DATA_BOOLEAN},
                                  CUDNN_DATA_BOOLEAN);
  const Tensor causal = select(scores, seen);
  if (s.window == 0) return causal;
  const Tensor window = g.number(std::int32_t(s.window)), row2 = index(2), column2 = index(3);
  const Tensor end = g.pointwise(
      {.mode = CUDNN_POINTWISE_ADD, .x = &column2, .b = &window, .compute = CUDNN_DATA_INT32, .axis = 3}, CUDNN_DATA_INT32);
  const Tensor near = g.pointwise({.mode = CUDNN_POINTWISE_CMP_GT, .x = &end, .b = &row2, .compute = CUDNN_DATA_BOOLEAN},
                                  CUDNN_DATA_BOOLEAN);
  return select(causal, near);
}

struct Forward {
  Graph g;
  Tensor q, k, v, out, stats;

  Forward(const Shape& s, cudnnDataType_t type) {
    q = heads_of(g, s, type, s.heads, s.packed_width());
    k = heads_of(g, s, type, s.kv_heads, s.packed_width(), true);
    v = heads_of(g, s, type, s.kv_heads, s.packed_width());
    out = heads_of(g, s, type, s.heads, s.width());
    const Ints all = {s.batch, s.heads, s.time, s.time}, rows = {s.batch, s.heads, s.time, 1};
    stats = g.tensor(CUDNN_DATA_FLOAT, rows, packed(rows));
    const Tensor scores = g.inner(CUDNN_DATA_FLOAT, all), factor = g.number(s.scale());
    g.matmul(q, k, scores);
    const Tensor scaled = g.pointwise({.mode = CUDNN_POINTWISE_MUL, .x = &scores, .b = &factor});
    const Tensor x = masked(g, s, scaled);
    const Tensor highest = g.inner(CUDNN_DATA_FLOAT, rows), sum = g.inner(CUDNN_DATA_FLOAT, rows);
    g.reduce(CUDNN_REDUCE_TENSOR_MAX, x, highest);
    const Tensor below = g.pointwise({.mode = CUDNN_POINTWISE_SUB, .x = &x, .b = &highest});
    const Tensor power = g.pointwise({.mode = CUDNN_POINTWISE_EXP, .x = &below});
    g.reduce(CUDNN_REDUCE_TENSOR_ADD, power, sum);
    const Tensor logarithm = g.pointwise({.mode = CUDNN_POINTWISE_LOG, .x = &sum});
    g.pointwise({.mode = CUDNN_POINTWISE_ADD, .x = &highest, .b = &logarithm}, stats);
    const Tensor weights = g.pointwise({.mode = CUDNN_POINTWISE_DIV, .x = &power, .b = &sum}, type);
    g.matmul(weights, v, out);
  }
};

// With atomics, the gradient of the queries is summed in float32 by atomic additions, in memory that the graph names;
// without, cuDNN keeps the gradient of the scores, time² elements a head, and the order of each sum is fixed.
struct Backward {
  Graph g;
  Tensor q, k, v, out, stats, dout, dq, dk, dv, delta, dq_sum;
  bool atomics;

  Backward(const Shape& s, cudnnDataType_t type, bool with_atomics) : atomics(with_atomics) {
    const std::int64_t cols = s.packed_width();
    q = heads_of(g, s, type, s.heads, cols);
    k = heads_of(g, s, type, s.kv_heads, cols, true);
    v = heads_of(g, s, type, s.kv_heads, cols, true);
    out = heads_of(g, s, type, s.heads, s.width());
    dout = heads_of(g, s, type, s.heads, s.width());
    dq = heads_of(g, s, type, s.heads, cols);
    dk = heads_of(g, s, type, s.kv_heads, cols);
    dv = heads_of(g, s, type, s.kv_heads, cols);
    const Ints all = {s.batch, s.heads, s.time, s.time}, rows = {s.batch, s.heads, s.time, 1},
               each = {s.batch, s.heads, s.time, s.size};
    stats = g.tensor(CUDNN_DATA_FLOAT, rows, packed(rows));
    delta = g.tensor(CUDNN_DATA_FLOAT, rows, packed(rows));
    const Tensor factor = g.number(s.scale()), one = g.number(1.0f);

    const Tensor products = g.pointwise({.mode = CUDNN_POINTWISE_MUL, .x = &dout, .b = &out});
    const Tensor row_sums = g.inner(CUDNN_DATA_FLOAT, rows);
    g.reduce(CUDNN_REDUCE_TENSOR_ADD, products, row_sums);
    g.pointwise({.mode = CUDNN_POINTWISE_MUL, .x = &row_sums, .b = &one}, delta);

    const Tensor scores = g.inner(CUDNN_DATA_FLOAT, all);
    g.matmul(q, k, scores);
    const Tensor scaled = g.pointwise({.mode = CUDNN_POINTWISE_MUL, .x = &scores, .b = &factor});
    const Tensor shifted = g.pointwise({.mode = CUDNN_POINTWISE_SUB, .x = &scaled, .b = &stats});
    const Tensor x = masked(g, s, shifted);
    const Tensor weights = g.pointwise({.mode = CUDNN_POINTWISE_EXP, .x = &x});
    sum_over_queries(s, type, weights, dout, dv);

    const Tensor dweights = g.inner(CUDNN_DATA_FLOAT, all);
    g.matmul(dout, v, dweights);
    const Tensor centred = g.pointwise({.mode = CUDNN_POINTWISE_SUB, .x = &dweights, .b = &delta});
    const Tensor raw = g.pointwise({.mode = CUDNN_POINTWISE_MUL, .x = &centred, .b = &weights});
    const Tensor dscores = g.pointwise({.mode = CUDNN_POINTWISE_MUL, .x = &raw, .b = &factor});
    sum_over_queries(s, type, dscores, q, dk);

    const Tensor keys = g.tensor(type, {k.dims[0], k.dims[1], k.dims[3], k.dims[2]},
                                 {k.strides[0], k.strides[1], k.strides[3], k.strides[2]}, Graph::Kind::inner);
    g.reshape(k, keys);
    if (!atomics) {
      g.matmul(dscores, keys, dq);
      return;
    }
    dq_sum = g.tensor(CUDNN_DATA_FLOAT, each, packed(each));
    g.matmul(dscores, keys, dq_sum);
    g.pointwise({.mode = CUDNN_POINTWISE_IDENTITY, .x = &dq_sum}, dq);
  }

 private:
  // to = Σ over queries (and over the heads that share keys) of weightsᵀ·from.
  void sum_over_queries(const Shape& s, cudnnDataType_t type, const Tensor& weights, const Tensor& from, const Tensor& to) {
    const std::int64_t t = s.time;
    const Tensor turned = g.tensor(type, {s.batch, s.heads, t, t}, {s.heads * t * t, t * t, 1, t}, Graph::Kind::inner);
    g.reshape(weights, turned);
    if (s.heads == s.kv_heads) return g.matmul(turned, from, to);
    const Tensor of_heads = g.inner(type, {s.batch, s.heads, t, s.size});
    g.matmul(turned, from, of_heads);
    g.reduce(CUDNN_REDUCE_TENSOR_ADD, of_heads, to);
  }
};

using Numbers = std::vector<double>;

struct Reference {
  Numbers out, stats, dqkv;
};

Reference reference(const Shape& s, const Numbers& qkv, const Numbers& dout) {
  Reference r{Numbers(std::size_t(s.batch * s.time * s.width())), Numbers(std::size_t(s.batch * s.heads * s.time)),
              Numbers(qkv.size())};
  const std::int64_t cols = s.packed_width(), group = s.heads / s.kv_heads;
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t h = 0; h < s.heads; ++h)
      for (std::int64_t t = 0; t < s.time; ++t) {
        const std::int64_t first = s.window ? std::max<std::int64_t>(0, t - s.window + 1) : 0, n = t + 1 - first;
        const auto at = [&](std::int64_t row, std::int64_t column) {
          return std::size_t((b * s.time + row) * cols + column);
        };
        const std::int64_t q = h * s.size, k = s.width() + h / group * s.size, v = k + s.kv_width();
        const auto o = std::size_t((b * s.time + t) * s.width() + h * s.size);
        Numbers w(std::size_t(n), 0.0), dw(std::size_t(n), 0.0);
        double highest = -1e300, sum = 0, delta = 0;
        for (std::int64_t j = 0; j < n; ++j) {
          for (std::int64_t i = 0; i < s.size; ++i) w[std::size_t(j)] += qkv[at(t, q + i)] * qkv[at(first + j, k + i)];
          highest = std::max(highest, w[std::size_t(j)] *= 1 / std::sqrt(double(s.size)));
        }
        for (double& x : w) sum += x = std::exp(x - highest);
        for (double& x : w) x /= sum;
        r.stats[std::size_t((b * s.heads + h) * s.time + t)] = highest + std::log(sum);
        for (std::int64_t j = 0; j < n; ++j)
          for (std::int64_t i = 0; i < s.size; ++i) {
            r.out[o + std::size_t(i)] += w[std::size_t(j)] * qkv[at(first + j, v + i)];
            dw[std::size_t(j)] += dout[o + std::size_t(i)] * qkv[at(first + j, v + i)];
            r.dqkv[at(first + j, v + i)] += w[std::size_t(j)] * dout[o + std::size_t(i)];
          }
        for (std::int64_t j = 0; j < n; ++j) delta += w[std::size_t(j)] * dw[std::size_t(j)];
        for (std::int64_t j = 0; j < n; ++j) {
          const double ds = w[std::size_t(j)] * (dw[std::size_t(j)] - delta) / std::sqrt(double(s.size));
          for (std::int64_t i = 0; i < s.size; ++i) {
            r.dqkv[at(t, q + i)] += ds * qkv[at(first + j, k + i)];
            r.dqkv[at(first + j, k + i)] += ds * qkv[at(t, q + i)];
          }
        }
      }
  return r;
}

std::size_t bytes_of(cudnnDataType_t type) { return type == CUDNN_DATA_FLOAT ? 4 : 2; }

// Device memory, filled with NaN.
class Memory {
 public:
  explicit Memory(std::size_t bytes) : bytes_(std::max<std::size_t>(bytes, 16)) {
    check(cudaMalloc(&data_, bytes_), "cudaMalloc");
    check(cudaMemset(data_, 0xff, bytes_), "cudaMemset");
  }
  Memory(const Memory&) = delete;
  ~Memory() { cudaFree(data_); }
  void* at(std::int64_t bytes) const { return static_cast<char*>(data_) + bytes; }
  std::vector<char> bytes() const {
    std::vector<char> host(bytes_);
    check(cudaMemcpy(host.data(), data_, bytes_, cudaMemcpyDeviceToHost), "copy to the host");
    return host;
  }
  Numbers numbers(cudnnDataType_t type, std::size_t count) const {
    const std::vector<char> host = bytes();
    Numbers values(count);
    for (std::size_t i = 0; i < count; ++i) {
      const char* at = host.data() + i * bytes_of(type);
      if (type == CUDNN_DATA_FLOAT) values[i] = *reinterpret_cast<const float*>(at);
      if (type == CUDNN_DATA_HALF) values[i] = __half2float(*reinterpret_cast<const __half*>(at));
      if (type == CUDNN_DATA_BFLOAT16) values[i] = __bfloat162float(*reinterpret_cast<const __nv_bfloat16*>(at));
    }
    return values;
  }
  // Random numbers of standard deviation 1, as stored.
  Numbers fill(cudnnDataType_t type, std::size_t count, std::uint64_t seed) {
    std::vector<char> host(count * bytes_of(type));
    std::uint64_t state = seed * 0x9e3779b97f4a7c15ull + 1;
    for (std::size_t i = 0; i < count; ++i) {
      float value = 0;
      for (int k = 0; k < 12; ++k) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        value += float(state >> 40) * 0x1p-24f;
      }
      value -= 6;
      char* at = host.data() + i * bytes_of(type);
      if (type == CUDNN_DATA_FLOAT) *reinterpret_cast<float*>(at) = value;
      if (type == CUDNN_DATA_HALF) *reinterpret_cast<__half*>(at) = __float2half(value);
      if (type == CUDNN_DATA_BFLOAT16) *reinterpret_cast<__nv_bfloat16*>(at) = __float2bfloat16(value);
    }
    check(cudaMemcpy(data_, host.data(), host.size(), cudaMemcpyHostToDevice), "copy to the device");
    return numbers(type, count);
  }

 private:
  void* data_ = nullptr;
  std::size_t bytes_;
};

std::string difference(const char* name, const Numbers& got, const Numbers& expected) {
  double worst = 0, largest = 0, squares = 0, all = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double d = std::abs(got[i] - expected[i]);
    worst = d <= worst ? worst : d;  // NaN stays
    if (std::isnan(d)) return std::string(name) + " NaN";
    largest = std::max(largest, std::abs(expected[i]));
    squares += d * d, all += expected[i] * expected[i];
  }
  char text[120];
  std::snprintf(text, sizeof text, "%s %.2e of %.2f (rms %.1e)", name, worst, largest, std::sqrt(squares / all));
  return text;
}

struct Case {
  const char* name;
  Shape shape;
  cudnnDataType_t type;
  bool exact;  // compared with the reference, or else timed
};

class Trial {
 public:
  Trial(const Target& target, const Case& c)
      : target_(target), case_(c), s_(c.shape), width_(std::size_t(s_.batch * s_.time)), size_(bytes_of(c.type)) {}

  void run() {
    std::printf("%s: b %ld t %ld heads %ld/%ld d %ld window %ld\n", case_.name, long(s_.batch), long(s_.time),
                long(s_.heads), long(s_.kv_heads), long(s_.size), long(s_.window));
    part("forward", [&] { forward(); });
    part("backward, fixed order", [&] { backward(false); });
    part("backward, atomics", [&] { backward(true); });
  }

 private:
  template <class F>
  void part(const char* what, const F& f) {
    reasons();
    std::printf("  %-22s ", what);
    try {
      f();
    } catch (const std::exception& e) {
      std::printf("FAILED %s\n%s", e.what(), reasons().c_str());
      cudaGetLastError();
    }
    std::fflush(stdout);
  }

  void allocate() {
    if (qkv_) return;
    const std::size_t all = width_ * std::size_t(s_.packed_width()), out = width_ * std::size_t(s_.width());
    qkv_ = std::make_unique<Memory>(all * size_);
    dqkv_ = std::make_unique<Memory>(all * size_);
    out_ = std::make_unique<Memory>(out * size_);
    dout_ = std::make_unique<Memory>(out * size_);
    stats_ = std::make_unique<Memory>(width_ * std::size_t(s_.heads) * 4);
    const Numbers qkv = qkv_->fill(case_.type, all, 1), dout = dout_->fill(case_.type, out, 2);
    if (case_.exact) reference_ = reference(s_, qkv, dout);
  }

  void* part_of(const Memory& m, std::int64_t column) const { return m.at(column * std::int64_t(size_)); }

  void forward() {
    Forward f(s_, case_.type);
    std::printf("%s", f.g.plan(target_).c_str());
    if (!target_.handle) return void(std::printf("\n"));
    allocate();
    const Memory workspace{std::size_t(f.g.workspace())};
    const auto go = [&] {
      f.g.run(target_.handle,
              {{&f.q, qkv_->at(0)},
               {&f.k, part_of(*qkv_, s_.width())},
               {&f.v, part_of(*qkv_, s_.width() + s_.kv_width())},
               {&f.out, out_->at(0)},
               {&f.stats, stats_->at(0)}},
              workspace.at(0));
    };
    measure(go, 2.0);
    if (!case_.exact) return;
    std::printf(
        "    %s; %s\n", difference("out", out_->numbers(case_.type, reference_.out.size()), reference_.out).c_str(),
        difference("logsumexp", stats_->numbers(CUDNN_DATA_FLOAT, reference_.stats.size()), reference_.stats).c_str());
  }

  void backward(bool atomics) {
    Backward f(s_, case_.type, atomics);
    std::printf("%s", f.g.plan(target_).c_str());
    if (!target_.handle) return void(std::printf("\n"));
    allocate();
    const std::size_t rows = width_ * std::size_t(s_.heads);
    const Memory workspace{std::size_t(f.g.workspace())}, delta(rows * 4),
        sums(atomics ? rows * std::size_t(s_.size) * 4 : 0);
    const std::int64_t keys = s_.width(), values = keys + s_.kv_width();
    const auto go = [&] {
      std::vector<std::pair<const Tensor*, void*>> tensors = {{&f.q, qkv_->at(0)},
                                                              {&f.k, part_of(*qkv_, keys)},
                                                              {&f.v, part_of(*qkv_, values)},
                                                              {&f.out, out_->at(0)},
                                                              {&f.stats, stats_->at(0)},
                                                              {&f.dout, dout_->at(0)},
                                                              {&f.delta, delta.at(0)},
                                                              {&f.dq, dqkv_->at(0)},
                                                              {&f.dk, part_of(*dqkv_, keys)},
                                                              {&f.dv, part_of(*dqkv_, values)}};
      if (atomics) tensors.push_back({&f.dq_sum, sums.at(0)});
      f.g.run(target_.handle, tensors, workspace.at(0));
    };
    measure(go, 5.0);
    const std::vector<char> first = dqkv_->bytes();
    bool same = true;
    for (int i = 0; i < 5; ++i) {
      go();
      check(cudaDeviceSynchronize(), "run");
      same = same && dqkv_->bytes() == first;
    }
    std::printf("    six runs are %s", same ? "equal in every bit" : "NOT EQUAL");
    if (case_.exact) compare_gradients();
    std::printf("\n");
  }

  void compare_gradients() const {
    const Numbers got = dqkv_->numbers(case_.type, reference_.dqkv.size());
    const std::size_t cols = std::size_t(s_.packed_width());
    const auto columns = [&](const Numbers& all, std::int64_t first, std::int64_t count) {
      Numbers some;
      for (std::size_t r = 0; r < width_; ++r)
        for (std::int64_t i = first; i < first + count; ++i) some.push_back(all[r * cols + std::size_t(i)]);
      return some;
    };
    const auto show = [&](const char* name, std::int64_t first, std::int64_t count) {
      std::printf("; %s", difference(name, columns(got, first, count), columns(reference_.dqkv, first, count)).c_str());
    };
    show("dq", 0, s_.width());
    show("dk", s_.width(), s_.kv_width());
    show("dv", s_.width() + s_.kv_width(), s_.kv_width());
  }

  // Median of ten runs on the GPU, and of the host's part; `products` of the causal half of time²·size are the work.
  void measure(const std::function<void()>& go, double products) const {
    cudaEvent_t from, to;
    check(cudaEventCreate(&from), "event");
    check(cudaEventCreate(&to), "event");
    std::vector<double> times, host;
    for (int i = 0; i < 12; ++i) {
      check(cudaDeviceSynchronize(), "run");
      check(cudaEventRecord(from), "event");
      const auto start = std::chrono::steady_clock::now();
      go();
      host.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
      check(cudaEventRecord(to), "event");
      check(cudaEventSynchronize(to), "run");
      float ms = 0;
      check(cudaEventElapsedTime(&ms, from, to), "event");
      if (i >= 2) times.push_back(1e3 * ms);
    }
    std::sort(times.begin(), times.end());
    std::sort(host.begin(), host.end());
    const double us = times[times.size() / 2], flops = products * 2 * double(s_.batch * s_.heads) * double(s_.time) *
                                                       double(s_.time) * double(s_.size) / 2;
    std::printf("; %.1f us, %.2f us a sequence, %.0f Tflop/s, host %.0f us\n", us, us / double(s_.batch), 1e-6 * flops / us,
                1e6 * host[host.size() / 2]);
    cudaEventDestroy(from);
    cudaEventDestroy(to);
  }

  const Target& target_;
  Case case_;
  Shape s_;
  std::size_t width_, size_;
  std::unique_ptr<Memory> qkv_, dqkv_, out_, dout_, stats_;
  Reference reference_;
};

std::vector<Case> cases(bool quick) {
  constexpr auto bf = CUDNN_DATA_BFLOAT16;
  std::vector<Case> all = {
      {"exact", {2, 256, 3, 3, 64}, bf, true},
      {"exact, odd length", {2, 200, 3, 3, 64}, bf, true},
      {"exact, grouped", {2, 256, 8, 2, 128}, bf, true},
      {"exact, window", {2, 320, 4, 4, 64, 100}, bf, true},
      {"timed, GPT-2", {16, 1024, 12, 12, 64}, bf, false},
      {"timed, grouped", {16, 512, 8, 2, 128}, bf, false},
      {"timed, window", {16, 1024, 12, 12, 64, 256}, bf, false},
  };
  if (quick) return all;
  const std::vector<Case> more = {
      {"exact, float16", {2, 256, 3, 3, 64}, CUDNN_DATA_HALF, true},
      {"exact, float32 (refused?)", {2, 256, 3, 3, 64}, CUDNN_DATA_FLOAT, true},
      {"exact, d 80", {2, 130, 3, 3, 80}, bf, true},
      {"exact, d 8", {2, 96, 3, 3, 8}, bf, true},
      {"exact, d 20 (refused?)", {2, 96, 3, 3, 20}, bf, true},
      {"exact, d 256", {1, 128, 2, 2, 256}, bf, true},
      {"exact, t 1", {2, 1, 3, 3, 64}, bf, true},
      {"exact, t 2", {2, 2, 3, 3, 64}, bf, true},
      {"exact, t 17", {3, 17, 3, 3, 64}, bf, true},
      {"timed, B 4", {4, 1024, 12, 12, 64}, bf, false},
      {"timed, B 64", {64, 1024, 12, 12, 64}, bf, false},
      {"timed, d 128 t 2048", {4, 2048, 16, 16, 128}, bf, false},
      {"timed, t 8192", {1, 8192, 12, 12, 64}, bf, false},
  };
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

// What cuDNN knows of a device, as text that --device-json takes.
std::string description(const Descriptor& device) {
  std::int64_t size = 0;
  check(
      cudnnBackendGetAttribute(device.get(), CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0, &size, nullptr),
      "device: size of the description");
  std::string text(std::size_t(size), '\0');
  check(cudnnBackendGetAttribute(device.get(), CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, size, &size,
                                 text.data()),
        "device: description");
  return text;
}

Target target_of(const char* file) {
  Target target;
  if (!file) {
    cudaDeviceProp p{};
    check(cudaGetDeviceProperties(&p, 0), "no GPU");
    std::printf("%s, compute capability %d.%d\n", p.name, p.major, p.minor);
    check(cudnnCreate(&target.handle), "cudnnCreate");
    target.device = std::make_unique<Descriptor>(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, "device");
    target.device->set(CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, target.handle).finalize();
    std::printf("device: %s\n", description(*target.device).c_str());
    return target;
  }
  std::ifstream in(file);
  std::stringstream text;
  text << in.rdbuf();
  const std::string json = text.str();
  target.device = std::make_unique<Descriptor>(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, "device");
  target.device->set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                     std::vector<char>(json.begin(), json.end()));
  target.device->finalize();
  return target;
}

}  // namespace

int main(int argc, char** argv) {
  bool quick = false;
  const char *file = nullptr, *only = "";
  for (int i = 1; i < argc; ++i)
    if (std::strcmp(argv[i], "--quick") == 0)
      quick = true;
    else if (std::strcmp(argv[i], "--only") == 0 && i + 1 < argc)
      only = argv[++i];
    else if (std::strcmp(argv[i], "--device-json") == 0 && i + 1 < argc)
      file = argv[++i];
    else
      return std::fprintf(stderr, "usage: sdpa_probe [--quick] [--only PART_OF_A_NAME] [--device-json FILE]\n"), 2;
  setenv("CUDNN_LOGLEVEL_DBG", "2", 0);  // cuDNN reads both at its first call
  setenv("CUDNN_LOGDEST_DBG", "sdpa_probe.log", 0);
  try {
    std::printf("cuDNN %zu (headers %d)\n", cudnnGetVersion(), CUDNN_VERSION);
    const Target target = target_of(file);
    for (const Case& c : cases(quick))
      if (std::strstr(c.name, only)) Trial(target, c).run();
  } catch (const std::exception& e) {
    return std::printf("FAILED %s\n%s", e.what(), reasons().c_str()), 1;
  }
}
