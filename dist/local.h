// The group of one rank: every operation is a no-op or a copy to itself.
#pragma once

#include <memory>

#include "dist/communicator.h"

namespace muonp::dist {

std::unique_ptr<Communicator> make_local();

}  // namespace muonp::dist
