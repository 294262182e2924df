#include "tests/core/files/largest_request.h"

#include <cstdlib>
#include <new>

namespace muonp::test {
std::atomic<std::size_t> largest_request{0};
}

// Those that the library's others call, and the one that it asks for temporary buffers; sanitizers compare
// how memory was taken with how it is given back.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  std::atomic<std::size_t>& largest = muonp::test::largest_request;
  for (std::size_t seen = largest; bytes > seen && !largest.compare_exchange_weak(seen, bytes);) {
  }
  return std::malloc(bytes == 0 ? 1 : bytes);
}
void* operator new(std::size_t bytes) {
  if (void* memory = operator new(bytes, std::nothrow)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
