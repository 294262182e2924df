// `muonp config --rules`: every update rule with its keys, defaults, source and state.
#pragma once

#include <string>

namespace muonp::launch {

std::string rules_as_text();
// An object by rule: moves, source, published_lr, keys (name: default), state (name, form, home, bytes of one in float32, narrow:
// whether state_dtype applies), state_bytes_per_element (of states of the parameter's own shape, float32) and the same by
// state_dtype.
std::string rules_as_json();

}  // namespace muonp::launch
