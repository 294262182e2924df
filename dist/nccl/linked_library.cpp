// Where NCCL's functions are part of the program.
#include "dist/nccl/library.h"

namespace muonp::dist {

std::string nccl_refusal() { return ""; }

}  // namespace muonp::dist
