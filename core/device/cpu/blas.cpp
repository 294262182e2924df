// oneDNN is called from this file only (version 2.6; version 3 builds primitives without the operation
// descriptor).
#include "core/device/cpu/blas.h"

#include <dnnl.h>
#include <omp.h>

#include <bit>
#include <list>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

#include "core/base/index.h"
#include "core/device/cpu/tasks.h"
#include "core/device/cpu/team.h"
#include "core/device/epilogue.h"

namespace muonp::core {
namespace {

// A product of this many operations or more keeps all threads busy by itself.
constexpr double kThreadedFlops = 2.0 * 320 * 320 * 320;

void check(dnnl_status_t status, const char* call) {
  MUONP_ASSERT(status == dnnl_success, "{} returned {} ({})", call, static_cast<int>(status),
               status == dnnl_unimplemented ? "not implemented on this processor" : "oneDNN");
}
#define MUONP_DNNL(call) check(call, #call)

template <class T>
void scale_rows(Queue& queue, const MatrixView& c, float beta) {
  T* data = static_cast<T*>(c.data);
  run_tasks(queue, c.rows, [=, &c](std::int64_t r) {
    for (std::int64_t j = 0; j < c.cols; ++j) {
      T& x = data[r * c.stride + j];
      x = beta == 0 ? T(0.0f) : T(beta * static_cast<float>(x));
    }
  });
}

// ---- float32 ----

void multiply_float32(const Product& p) {
  MUONP_DNNL(dnnl_sgemm(p.op_a == Op::none ? 'N' : 'T', p.op_b == Op::none ? 'N' : 'T', p.m, p.n, p.k, p.alpha,
                        static_cast<const float*>(p.a.data), p.a.stride, static_cast<const float*>(p.b.data), p.b.stride,
                        p.beta, static_cast<float*>(p.c.data), p.c.stride));
}

// ---- the matmul primitive: bfloat16, and its emulation in float32 ----

template <class Handle, dnnl_status_t (*destroy)(Handle)>
struct Owned {
  Handle handle = nullptr;
  Owned() = default;
  explicit Owned(Handle h) : handle(h) {}
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (handle) destroy(handle);
  }
};
using Engine = Owned<dnnl_engine_t, dnnl_engine_destroy>;
using Stream = Owned<dnnl_stream_t, dnnl_stream_destroy>;
using Memory = Owned<dnnl_memory_t, dnnl_memory_destroy>;
using Attributes = Owned<dnnl_primitive_attr_t, dnnl_primitive_attr_destroy>;
using PostOps = Owned<dnnl_post_ops_t, dnnl_post_ops_destroy>;
using PrimitiveDesc = Owned<dnnl_primitive_desc_t, dnnl_primitive_desc_destroy>;
using Primitive = Owned<dnnl_primitive_t, dnnl_primitive_destroy>;

dnnl_data_type_t type_of(Dtype dtype) { return dtype == Dtype::float32 ? dnnl_f32 : dnnl_bf16; }

dnnl_memory_desc_t describe(const MatrixView& view, Op op) {
  const bool t = op == Op::transpose;
  const dnnl_dims_t dims = {t ? view.cols : view.rows, t ? view.rows : view.cols};
  const dnnl_dims_t strides = {t ? 1 : view.stride, t ? view.stride : 1};
  dnnl_memory_desc_t description;
  MUONP_DNNL(dnnl_memory_desc_init_by_strides(&description, 2, dims, type_of(view.dtype), strides));
  return description;
}

struct Matmul {
  dnnl_memory_desc_t a, b, c, scratch;
  Primitive primitive;
};

dnnl_engine_t cpu_engine() {
  static const Engine engine{[] {
    dnnl_engine_t handle = nullptr;
    MUONP_DNNL(dnnl_engine_create(&handle, dnnl_cpu, 0));
    return handle;
  }()};
  return engine.handle;
}

std::shared_ptr<const Matmul> create_matmul(const Product& p) {
  auto matmul = std::make_shared<Matmul>();
  matmul->a = describe(p.a, p.op_a);
  matmul->b = describe(p.b, p.op_b);
  matmul->c = describe(p.c, Op::none);
  Attributes attributes;
  MUONP_DNNL(dnnl_primitive_attr_create(&attributes.handle));
  // Own scratch memory: the library's is shared between primitives and not safe on several threads.
  MUONP_DNNL(dnnl_primitive_attr_set_scratchpad_mode(attributes.handle, dnnl_scratchpad_mode_user));
  if (p.alpha != 1) MUONP_DNNL(dnnl_primitive_attr_set_output_scales(attributes.handle, 1, 0, &p.alpha));
  PostOps post_ops;
  if (p.beta != 0) {
    MUONP_DNNL(dnnl_post_ops_create(&post_ops.handle));
    MUONP_DNNL(dnnl_post_ops_append_sum(post_ops.handle, p.beta));
    MUONP_DNNL(dnnl_primitive_attr_set_post_ops(attributes.handle, post_ops.handle));
  }
  dnnl_matmul_desc_t operation;
  MUONP_DNNL(dnnl_matmul_desc_init(&operation, &matmul->a, &matmul->b, nullptr, &matmul->c));
  PrimitiveDesc description;
  MUONP_DNNL(dnnl_primitive_desc_create(&description.handle, &operation, attributes.handle, cpu_engine(), nullptr));
  matmul->scratch = *dnnl_primitive_desc_query_md(description.handle, dnnl_query_scratchpad_md, 0);
  MUONP_DNNL(dnnl_primitive_create(&matmul->primitive.handle, description.handle));
  return matmul;
}

// Creating a primitive costs 0.05–0.3 ms. The least recently used one is dropped when there are too many.
class MatmulCache {
 public:
  std::shared_ptr<const Matmul> get(const Product& p) {
    const Key key{p.m,
                  p.n,
                  p.k,
                  p.a.stride,
                  p.b.stride,
                  p.c.stride,
                  p.op_a,
                  p.op_b,
                  p.a.dtype,
                  p.c.dtype,
                  std::bit_cast<std::uint32_t>(p.alpha),
                  std::bit_cast<std::uint32_t>(p.beta),
                  omp_in_parallel() ? 1 : omp_get_max_threads()};  // the library plans for a number of threads
    std::lock_guard lock(mutex_);
    const auto found = index_.find(key);
    if (found != index_.end()) {
      entries_.splice(entries_.begin(), entries_, found->second);
      return entries_.front().second;
    }
    entries_.emplace_front(key, create_matmul(p));
    index_[key] = entries_.begin();
    if (entries_.size() > kCapacity) {
      index_.erase(entries_.back().first);
      entries_.pop_back();
    }
    return entries_.front().second;
  }

 private:
  using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, Op, Op, Dtype,
                         Dtype, std::uint32_t, std::uint32_t, int>;
  static constexpr std::size_t kCapacity = 1024;

  std::mutex mutex_;
  std::list<std::pair<Key, std::shared_ptr<const Matmul>>> entries_;
  std::map<Key, decltype(entries_)::iterator> index_;
};

void run_matmul(const Product& p) {
  static MatmulCache cache;
  static thread_local Stream stream;
  static thread_local std::vector<char> scratch;
  if (!stream.handle) MUONP_DNNL(dnnl_stream_create(&stream.handle, cpu_engine(), dnnl_stream_default_flags));
  const auto matmul = cache.get(p);
  const std::size_t scratch_bytes = dnnl_memory_desc_get_size(&matmul->scratch);
  if (scratch.size() < scratch_bytes + 64) scratch.resize(scratch_bytes + 64);
  void* aligned = reinterpret_cast<void*>((reinterpret_cast<std::uintptr_t>(scratch.data()) + 63) / 64 * 64);
  Memory a, b, c, s;
  MUONP_DNNL(dnnl_memory_create(&a.handle, &matmul->a, cpu_engine(), p.a.data));
  MUONP_DNNL(dnnl_memory_create(&b.handle, &matmul->b, cpu_engine(), p.b.data));
  MUONP_DNNL(dnnl_memory_create(&c.handle, &matmul->c, cpu_engine(), p.c.data));
  MUONP_DNNL(dnnl_memory_create(&s.handle, &matmul->scratch, cpu_engine(), aligned));
  const dnnl_exec_arg_t arguments[] = {
      {DNNL_ARG_SRC, a.handle}, {DNNL_ARG_WEIGHTS, b.handle}, {DNNL_ARG_DST, c.handle}, {DNNL_ARG_SCRATCHPAD, s.handle}};
  MUONP_DNNL(dnnl_primitive_execute(matmul->primitive.handle, stream.handle, 4, arguments));
  MUONP_DNNL(dnnl_stream_wait(stream.handle));
}

// A dense float32 copy of a bfloat16 matrix.
struct Widened {
  explicit Widened(const MatrixView& from) : values(static_cast<std::size_t>(from.rows * from.cols)) {
    const auto* data = static_cast<const bfloat16*>(from.data);
    for (std::int64_t r = 0; r < from.rows; ++r)
      for (std::int64_t j = 0; j < from.cols; ++j) values[at(r * from.cols + j)] = data[r * from.stride + j];
    view = MatrixView(values.data(), from.rows, from.cols, from.cols);
  }
  std::vector<float> values;
  MatrixView view;
};

void run_emulated(const Product& p) {
  Widened a(p.a), b(p.b);
  Product q = p;
  q.a = a.view;
  q.b = b.view;
  if (p.c.dtype == Dtype::float32) return run_matmul(q);
  Widened c(p.c);
  q.c = c.view;
  run_matmul(q);
  auto* data = static_cast<bfloat16*>(p.c.data);
  for (std::int64_t r = 0; r < p.m; ++r)
    for (std::int64_t j = 0; j < p.n; ++j) data[r * p.c.stride + j] = bfloat16(c.values[at(r * p.n + j)]);
}

void multiply_one(Queue& queue, const Product& p) {
  if (p.k == 0)
    return p.c.dtype == Dtype::float32 ? scale_rows<float>(queue, p.c, p.beta) : scale_rows<bfloat16>(queue, p.c, p.beta);
  if (p.a.dtype == Dtype::float32) return multiply_float32(p);
  queue.emulates_bfloat16() ? run_emulated(p) : run_matmul(p);
}

const char* isa_name(dnnl_cpu_isa_t isa) {
  if ((isa & dnnl_cpu_isa_avx512_core_vnni) == dnnl_cpu_isa_avx512_core_vnni) return "AVX-512 with VNNI";
  if ((isa & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core) return "AVX-512";
  if ((isa & dnnl_cpu_isa_avx2) == dnnl_cpu_isa_avx2) return "AVX2";
  return (isa & dnnl_cpu_isa_avx) == dnnl_cpu_isa_avx ? "AVX" : "SSE4.1";
}

}  // namespace

namespace cpu {

void multiply(Queue& queue, const Product& first, std::int64_t count, const std::array<std::int64_t, 3>& batch_strides) {
  if (first.epilogue.is_any()) return multiply_in_parts(queue, first);
  const TeamSize team(first.one_thread ? 1 : queue.threads());
  const auto one = [&](std::int64_t i) {
    Product p = first;
    p.a = StridedBatch{first.a, batch_strides[0]}[i];
    p.b = StridedBatch{first.b, batch_strides[1]}[i];
    p.c = StridedBatch{first.c, batch_strides[2]}[i];
    multiply_one(queue, p);
  };
  if (count > 1 && count >= queue.threads() && gemm_flops(first.m, first.n, first.k) < kThreadedFlops)
    return run_tasks(queue, count, one);
  for (std::int64_t i = 0; i < count; ++i) one(i);
}

}  // namespace cpu

std::string bfloat16_refusal(DeviceKind kind) {
  if (kind != DeviceKind::cpu) return "";
  const dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
  if ((isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16) return "";
  return fmt::format(
      "this processor ({}) has no bfloat16 products; they need AVX-512 with bfloat16 (avx512_bf16). "
      "Use float32",
      isa_name(isa));
}

}  // namespace muonp::core
