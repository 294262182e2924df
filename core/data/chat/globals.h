// The functions that a chat template may call.
#pragma once

#include "core/data/chat/value.h"

namespace muonp::core::jinja {

// raise_exception, strftime_now (the local time of the call), namespace, dict, range.
const NamedValues& globals();

}  // namespace muonp::core::jinja
