// This host's name, as messages, locks and temporary files have it.
#pragma once

#include <string>

namespace muonp::core {

std::string hostname();  // "unknown host" where the system does not tell

}  // namespace muonp::core
