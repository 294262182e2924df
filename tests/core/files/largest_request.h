// The largest request that operator new has got in this program since it was set to 0 [bytes].
#pragma once

#include <atomic>
#include <cstddef>

namespace muonp::test {
extern std::atomic<std::size_t> largest_request;
}
