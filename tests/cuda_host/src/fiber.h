// A stack of its own to run a function on, by Boost.Context's plain switch, announced to ASan and TSan.
#pragma once

#include <boost/context/detail/fcontext.hpp>
#include <cstddef>

namespace cuda_host {

// Belongs to the host thread that made it. A fiber that finished its function can be started again.
class Fiber {
 public:
  using Function = void (*)(void* argument);

  Fiber();  // 64 KiB and a guard page; 512 KiB under a sanitizer, whose frames are larger
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next resume() begins function(argument). A function that is still suspended is dropped, without
  // unwinding.
  void start(Function function, void* argument);
  void resume();   // from the owner: until the function suspends or returns
  void suspend();  // from the function

 private:
  static void main(boost::context::detail::transfer_t from);
  void make();
  void enter_owner();
  char* bottom() const { return mapping_ + kGuard + first_byte_; }

  static constexpr size_t kGuard = 4096;
  char* mapping_;
  size_t first_byte_;
  size_t mapping_bytes_, stack_bytes_;
  boost::context::detail::fcontext_t context_ = nullptr, owner_ = nullptr;
  Function function_ = nullptr;
  void* argument_ = nullptr;
  bool running_function_ = false;
  void* tsan_fiber_ = nullptr;
  void* tsan_owner_ = nullptr;
  void* fake_stack_ = nullptr;  // ASan's, of the fiber while the owner runs
  const void* owner_bottom_ = nullptr;
  size_t owner_size_ = 0;
};

}  // namespace cuda_host
