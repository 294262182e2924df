#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "core/device/cuda/cudnn.h"
#include "core/device/cuda/fused_attention.h"
#include "core/device/cuda/queue.h"

namespace muonp::core::cuda {

namespace {

using cudnn::Graph;
using cudnn::Value;

constexpr cudnnDataType_t kStored = CUDNN_DATA_BFLOAT16, kFloat = CUDNN_DATA_FLOAT;

using Part = AttentionPart;

cudnn::Sizes scores_of(const Part& p) { return {p.batch, p.heads, p.time, p.time}; }
cudnn::Sizes rows_of(const Part& p) { return {p.batch, p.heads, p.time, 1}; }
float scale_of(const Part& p) { return 1.0f / std::sqrt(static_cast<float>(p.size)); }

Value heads_of(Graph& g, const Part& p, std::int64_t row) {
  return g.tensor(kStored, {p.batch, p.heads, p.time, p.size}, {p.time * row, p.size, row, 1});
}
Value turned_heads_of(Graph& g, const Part& p, std::int64_t row) {
  return g.tensor(kStored, {p.batch, p.heads, p.size, p.time}, {p.time * row, p.size, 1, row});
}

// −∞ for the keys after the query.
Value masked(Graph& g, const Value& scores) {
  const Value query = g.index(scores, 2), key = g.index(scores, 3);
  const Value seen = g.pointwise(CUDNN_POINTWISE_CMP_GE, query, key, CUDNN_DATA_BOOLEAN);
  return g.select(scores, g.number(-std::numeric_limits<float>::infinity()), seen);
}

// The graphs are the ones that cuDNN's engines for attention know, down to operations without effect (the factor 1).
struct Forward {
  Graph graph;
  Value q, k, v, out, logsumexp;

  Forward(const Part& p, cudnnHandle_t library)
      : q(heads_of(graph, p, p.query_row)),
        k(turned_heads_of(graph, p, p.key_row)),
        v(heads_of(graph, p, p.key_row)),
        out(heads_of(graph, p, p.result_row)),
        logsumexp(graph.tensor(kFloat, rows_of(p))) {
    Graph& g = graph;
    const Value scores = g.inner(kFloat, scores_of(p)), highest = g.inner(kFloat, rows_of(p)),
                sum = g.inner(kFloat, rows_of(p));
    g.matmul(q, k, scores);
    const Value x = masked(g, g.pointwise(CUDNN_POINTWISE_MUL, scores, g.number(scale_of(p))));
    g.reduce(CUDNN_REDUCE_TENSOR_MAX, x, highest);
    const Value power = g.pointwise(CUDNN_POINTWISE_EXP, g.pointwise(CUDNN_POINTWISE_SUB, x, highest));
    g.reduce(CUDNN_REDUCE_TENSOR_ADD, power, sum);
    g.pointwise(CUDNN_POINTWISE_ADD, highest, g.pointwise(CUDNN_POINTWISE_LOG, sum), logsumexp);
    const Value weights = g.inner(kStored, scores_of(p));
    g.pointwise(CUDNN_POINTWISE_DIV, power, sum, weights);
    g.matmul(weights, v, out);
    g.plan(library);
  }
};

struct Backward {
  Graph graph;
  Value q, k, v, out, dout, logsumexp, delta, dq, dk, dv;  // delta: scratch, a float a row

  Backward(const Part& p, cudnnHandle_t library)
      : q(heads_of(graph, p, p.query_row)),
        k(turned_heads_of(graph, p, p.key_row)),
        v(turned_heads_of(graph, p, p.key_row)),
        out(heads_of(graph, p, p.result_row)),
        dout(heads_of(graph, p, p.result_row)),
        logsumexp(graph.tensor(kFloat, rows_of(p))),
        delta(graph.tensor(kFloat, rows_of(p))),
        dq(heads_of(graph, p, p.query_row)),
        dk(heads_of(graph, p, p.key_row)),
        dv(heads_of(graph, p, p.key_row)) {
    Graph& g = graph;
    const Value scale = g.number(scale_of(p)), row_sums = g.inner(kFloat, rows_of(p));
    g.reduce(CUDNN_REDUCE_TENSOR_ADD, g.pointwise(CUDNN_POINTWISE_MUL, dout, out), row_sums);
    g.pointwise(CUDNN_POINTWISE_MUL, row_sums, g.number(1.0f), delta);

    const Value scores = g.inner(kFloat, scores_of(p)), dweights = g.inner(kFloat, scores_of(p));
    g.matmul(q, k, scores);
    const Value scaled = g.pointwise(CUDNN_POINTWISE_MUL, scores, scale);
    const Value weights = g.pointwise(CUDNN_POINTWISE_EXP, masked(g, g.pointwise(CUDNN_POINTWISE_SUB, scaled, logsumexp)));
    g.matmul(turned(p, weights), dout, dv);
    g.matmul(dout, v, dweights);
    const Value centred = g.pointwise(CUDNN_POINTWISE_SUB, dweights, delta);
    const Value dscores = g.pointwise(CUDNN_POINTWISE_MUL, g.pointwise(CUDNN_POINTWISE_MUL, centred, weights), scale);
    g.matmul(turned(p, dscores), q, dk);
    const Value keys = g.inner(kStored, dk.dims, dk.strides);
    g.turn(k, keys);
    g.matmul(dscores, keys, dq);
    g.plan(library);
  }

 private:
  Value turned(const Part& p, const Value& scores) {
    const std::int64_t t = p.time;
    const Value y = graph.inner(kStored, scores_of(p), {p.heads * t * t, t * t, 1, t});
    graph.turn(scores, y);
    return y;
  }
};

class CudnnAttention final : public FusedAttention {
 public:
  explicit CudnnAttention(Device& device) : device_(device), library_(cudnn::make_library(stream_of(device.queue()))) {}

 private:
  void run_forward(const AttentionPart& p, const HeadPointers& in, void* out, void* logsumexp) override {
    const Forward& f = plan(forward_, p);
    const Tensor workspace = bytes(f.graph.workspace());
    f.graph.run(library_.get(), {{&f.q, in.q}, {&f.k, in.k}, {&f.v, in.v}, {&f.out, out}, {&f.logsumexp, logsumexp}},
                workspace.raw());
  }

  void run_backward(const AttentionPart& p, const HeadPointers& in, void* out, void* logsumexp, void* dout,
                    const HeadPointers& gradients) override {
    const Backward& f = plan(backward_, p);
    const Tensor workspace = bytes(f.graph.workspace()), delta = bytes(p.batch * p.heads * p.time * 4);
    f.graph.run(library_.get(),
                {{&f.q, in.q},
                 {&f.k, in.k},
                 {&f.v, in.v},
                 {&f.out, out},
                 {&f.dout, dout},
                 {&f.logsumexp, logsumexp},
                 {&f.delta, delta.raw()},
                 {&f.dq, gradients.q},
                 {&f.dk, gradients.k},
                 {&f.dv, gradients.v}},
                workspace.raw());
  }

  template <class Plan>
  const Plan& plan(std::map<Part, Plan>& plans, const Part& p) {
    return plans.try_emplace(p, p, library_.get()).first->second;
  }

  Tensor bytes(std::int64_t count) {
    return Tensor::empty(device_, {std::max<std::int64_t>(count, 1)}, Dtype::uint8, Category::activations);
  }

  Device& device_;
  cudnn::Library library_;
  std::map<Part, Forward> forward_;
  std::map<Part, Backward> backward_;
};

}  // namespace

std::string fusion_library_refusal() {
  if (cudnn::refusal().empty()) return "";
  return cudnn::refusal() + " (install NVIDIA's cuDNN 9, or have LD_LIBRARY_PATH name its folder)";
}

std::string fusion_library() { return "cuDNN " + cudnn::version(); }

std::unique_ptr<FusedAttention> make_fused_attention(Device& device) { return std::make_unique<CudnnAttention>(device); }

}  // namespace muonp::core::cuda
