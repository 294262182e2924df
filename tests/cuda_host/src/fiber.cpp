#include "fiber.h"

#include <sys/mman.h>

#include <new>

#include "sanitizer.h"

namespace cuda_host {
namespace {

// The threads of a block are threads to ThreadSanitizer: a switch orders nothing, barriers do (block.cpp).
constexpr unsigned kSwitchWithoutOrder = 1;

size_t stack_bytes() {
  const bool sanitized = __tsan_create_fiber != nullptr || __sanitizer_start_switch_fiber != nullptr;
  return size_t{sanitized ? 512U : 64U} << 10;
}

}  // namespace

Fiber::Fiber() : stack_bytes_(stack_bytes()) {
  mapping_bytes_ = stack_bytes_ + 2 * kGuard;
  // Stacks that start at the same place of their pages would share a few lines of the cache.
  thread_local unsigned count = 0;
  first_byte_ = ++count * 320 % kGuard;
  void* address =
      mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (address == MAP_FAILED) throw std::bad_alloc();
  mapping_ = static_cast<char*>(address);
  mprotect(mapping_, kGuard, PROT_NONE);
}

Fiber::~Fiber() {
  if (tsan_fiber_ != nullptr) __tsan_destroy_fiber(tsan_fiber_);
  munmap(mapping_, mapping_bytes_);
}

void Fiber::make() {
  // Frames that were dropped leave their marks.
  if (__asan_unpoison_memory_region != nullptr) __asan_unpoison_memory_region(bottom(), stack_bytes_);
  context_ = boost::context::detail::make_fcontext(bottom() + stack_bytes_, stack_bytes_, &Fiber::main);
  fake_stack_ = nullptr;
  if (tsan_fiber_ != nullptr) __tsan_destroy_fiber(tsan_fiber_);
  tsan_fiber_ = __tsan_create_fiber != nullptr ? __tsan_create_fiber(0) : nullptr;
}

void Fiber::start(Function function, void* argument) {
  if (context_ == nullptr || running_function_) make();
  function_ = function;
  argument_ = argument;
  running_function_ = true;
}

void Fiber::resume() {
  void* owner_fake_stack = nullptr;
  if (__sanitizer_start_switch_fiber != nullptr) {
    __sanitizer_start_switch_fiber(&owner_fake_stack, bottom(), stack_bytes_);
  }
  if (tsan_fiber_ != nullptr) {
    tsan_owner_ = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(tsan_fiber_, kSwitchWithoutOrder);
  }
  context_ = boost::context::detail::jump_fcontext(context_, this).fctx;
  if (__sanitizer_finish_switch_fiber != nullptr) __sanitizer_finish_switch_fiber(owner_fake_stack, nullptr, nullptr);
}

void Fiber::suspend() {
  if (__sanitizer_start_switch_fiber != nullptr) {
    __sanitizer_start_switch_fiber(&fake_stack_, owner_bottom_, owner_size_);
  }
  if (tsan_fiber_ != nullptr) __tsan_switch_to_fiber(tsan_owner_, kSwitchWithoutOrder);
  owner_ = boost::context::detail::jump_fcontext(owner_, nullptr).fctx;
  enter_owner();
}

// Learns from where the fiber was entered.
void Fiber::enter_owner() {
  if (__sanitizer_finish_switch_fiber != nullptr) {
    __sanitizer_finish_switch_fiber(fake_stack_, &owner_bottom_, &owner_size_);
  }
}

void Fiber::main(boost::context::detail::transfer_t from) {
  auto* self = static_cast<Fiber*>(from.data);
  self->owner_ = from.fctx;
  self->enter_owner();
  for (;;) {
    self->function_(self->argument_);
    self->running_function_ = false;
    self->suspend();
  }
}

}  // namespace cuda_host
