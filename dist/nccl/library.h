// NCCL's library, loaded when it is first asked for: a program that was built with it runs where it is not.
#pragma once

#include <string>

namespace muonp::dist {

// Why NCCL cannot be used on this host; empty if it can.
std::string nccl_refusal();

}  // namespace muonp::dist
