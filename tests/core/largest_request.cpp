#include "largest_request.h"

#include <cstdlib>
#include <new>

namespace muonp::test {
std::atomic<std::size_t> largest_request{0};
}

void* operator new(std::size_t bytes) {
  std::atomic<std::size_t>& largest = muonp::test::largest_request;
  for (std::size_t seen = largest; bytes > seen && !largest.compare_exchange_weak(seen, bytes);) {
  }
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
