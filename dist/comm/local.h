// The group of one rank: every operation is a no-op or a copy to itself. Spans are host memory, or memory of `device`,
// which must outlive the communicator.
#pragma once

#include <memory>

#include "core/device/device.h"
#include "dist/comm/communicator.h"

namespace muonp::dist {

std::unique_ptr<Communicator> make_local(core::Device* device = nullptr);

}  // namespace muonp::dist
