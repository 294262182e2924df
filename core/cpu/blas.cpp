// oneDNN is called from this file only.
#include "core/blas.h"

#include <dnnl.h>

namespace muonp::core {

void gemm(Queue& queue, Op op_a, Op op_b, float alpha, const MatrixView& a, const MatrixView& b, float beta,
          const MatrixView& c) {
  MUONP_ASSERT(queue.kind() == DeviceKind::cpu, "not a CPU queue");
  const std::int64_t k = op_a == Op::none ? a.cols : a.rows;
  if (c.rows == 0 || c.cols == 0) return;
  MUONP_ASSERT(a.dtype == Dtype::float32, "float32 only");
  const auto status = dnnl_sgemm(op_a == Op::none ? 'N' : 'T', op_b == Op::none ? 'N' : 'T', c.rows, c.cols, k, alpha,
                                 static_cast<const float*>(a.data), a.stride, static_cast<const float*>(b.data),
                                 b.stride, beta, static_cast<float*>(c.data), c.stride);
  MUONP_ASSERT(status == dnnl_success, "dnnl_sgemm returned {}", static_cast<int>(status));
}

std::string bfloat16_refusal(DeviceKind) { return ""; }

}  // namespace muonp::core
