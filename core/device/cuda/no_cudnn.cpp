// A build without cuDNN's headers has attention of our own only, and says so.
#include "core/base/error.h"
#include "core/device/cuda/fused_attention.h"

namespace muonp::core::cuda {

std::string fusion_library_refusal() {
  return "this build has no cuDNN (configure with -DMUONP_CUDNN_INCLUDE_DIR=... where its headers are)";
}

std::string fusion_library() { fail("{}", fusion_library_refusal()); }

std::unique_ptr<FusedAttention> make_fused_attention(Device&) { fail("{}", fusion_library_refusal()); }

}  // namespace muonp::core::cuda
