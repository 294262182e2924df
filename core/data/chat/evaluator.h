// Runs a parsed template.
#pragma once

#include <string>

#include "core/data/chat/chat_template.h"
#include "core/data/chat/nodes.h"

namespace muonp::core::jinja {

// What the template prints when its names have these values. Error, by fail_at(): what Jinja would raise an exception for,
// raise_exception() with its words, and what is not supported.
RenderedChat evaluate(const Block& block, const std::string& name, const NamedValues& variables);

}  // namespace muonp::core::jinja
