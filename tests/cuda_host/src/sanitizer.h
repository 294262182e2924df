// The sanitizers' interfaces, weak: null where the program is built without them.
//
// The library is compiled without ThreadSanitizer's instrumentation (CMakeLists.txt), and its locks are
// futexes that ThreadSanitizer does not know, so that its own bookkeeping gives no happens-before edge. The
// edges that CUDA gives are announced one by one with happens_before and happens_after; kernels and host code
// are instrumented as usual.
#pragma once

#include <cstddef>

extern "C" {
[[gnu::weak]] void __tsan_acquire(void* address);
[[gnu::weak]] void __tsan_release(void* address);
[[gnu::weak]] void* __tsan_get_current_fiber();
[[gnu::weak]] void* __tsan_create_fiber(unsigned flags);
[[gnu::weak]] void __tsan_destroy_fiber(void* fiber);
[[gnu::weak]] void __tsan_switch_to_fiber(void* fiber, unsigned flags);
[[gnu::weak]] void __tsan_read_range(void* address, unsigned long bytes);
[[gnu::weak]] void __tsan_write_range(void* address, unsigned long bytes);
[[gnu::weak]] void __tsan_ignore_thread_begin();
[[gnu::weak]] void __tsan_ignore_thread_end();
[[gnu::weak]] void AnnotateIgnoreSyncBegin(const char* file, int line);
[[gnu::weak]] void AnnotateIgnoreSyncEnd(const char* file, int line);
[[gnu::weak]] void __asan_unpoison_memory_region(void const volatile* address, size_t bytes);
[[gnu::weak]] void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size);
[[gnu::weak]] void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t* size);
}

namespace cuda_host {

// What this thread did before happens_before(token) is visible to a thread after its happens_after(token).
inline void happens_before(void* token) {
  if (__tsan_release != nullptr) __tsan_release(token);
}
inline void happens_after(void* token) {
  if (__tsan_acquire != nullptr) __tsan_acquire(token);
}

// Accesses made by code that is not instrumented (memory fills, the CPU's BLAS).
inline void announce_read(const void* address, size_t bytes) {
  if (__tsan_read_range != nullptr && bytes > 0) __tsan_read_range(const_cast<void*>(address), bytes);
}
inline void announce_write(void* address, size_t bytes) {
  if (__tsan_write_range != nullptr && bytes > 0) __tsan_write_range(address, bytes);
}

// Within its scope the thread's accesses and synchronisation, the allocator's included, are the stand-in's
// own.
class IgnoredBySanitizer {
 public:
  IgnoredBySanitizer() {
    if (__tsan_ignore_thread_begin == nullptr) return;
    __tsan_ignore_thread_begin();
    AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
  }
  ~IgnoredBySanitizer() {
    if (__tsan_ignore_thread_end == nullptr) return;
    AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
    __tsan_ignore_thread_end();
  }
  IgnoredBySanitizer(const IgnoredBySanitizer&) = delete;
  IgnoredBySanitizer& operator=(const IgnoredBySanitizer&) = delete;
};

}  // namespace cuda_host
