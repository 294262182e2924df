// Accesses of 16 bytes for kernels of elements that name their arrays (core/for_each.h): a thread loads a pack of
// neighbouring elements of each array into registers, points the kernel's members at them, calls it for each element, and
// stores what it wrote.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "core/cuda/error.h"

namespace muonp::core::cuda {

inline constexpr int kPackBytes = 16;

template <class T>
__host__ __device__ T* pointer_of(T* p) {
  return p;
}
template <class T>
__host__ __device__ T* pointer_of(const Written<T>& p) {
  return p.data;
}

// What a member of a kernel is: an array of T.
template <auto member>
struct Member;
template <class F, class P, P F::*member>
struct Member<member> {
  using Array = P;
  using T = std::remove_const_t<std::remove_pointer_t<decltype(pointer_of(std::declval<P>()))>>;
  static constexpr bool kRead = !std::is_same_v<P, Written<T>>, kWritten = !std::is_same_v<P, const T*>;
};

// Elements of a pack: so many that the largest type takes kPackBytes.
template <auto... members>
inline constexpr int kPackOf = [] {
  std::size_t largest = 0;
  ((largest = sizeof(typename Member<members>::T) > largest ? sizeof(typename Member<members>::T) : largest), ...);
  return kPackBytes / static_cast<int>(largest);
}();

template <class T, int n>
struct Pack {
  using Raw = std::conditional_t<sizeof(T) * n == 16, uint4, uint2>;
  static_assert(sizeof(Raw) == sizeof(T) * n);
  T values[n];
};

template <class F, auto member, int n>
struct PackSlot {
  using T = typename Member<member>::T;
  using Raw = typename Pack<T, n>::Raw;
  T* array;
  Pack<T, n> pack;

  __device__ PackSlot(F& f, std::int64_t first) : array(const_cast<T*>(pointer_of(f.*member)) + first) {
    if constexpr (Member<member>::kRead)
      pack = std::bit_cast<Pack<T, n>>(*reinterpret_cast<const Raw*>(array));
    f.*member = typename Member<member>::Array{pack.values};
  }
  __device__ void store() const {
    if constexpr (Member<member>::kWritten) *reinterpret_cast<Raw*>(array) = std::bit_cast<Raw>(pack);
  }
};

// A copy of the kernel `f` works on the pack from `first` on as long as this lives.
template <class F, auto... members>
struct PackSlots : PackSlot<F, members, kPackOf<members...>>... {
  __device__ PackSlots(F& f, std::int64_t first) : PackSlot<F, members, kPackOf<members...>>(f, first)... {}
  PackSlots(const PackSlots&) = delete;
  __device__ void store() const { (PackSlot<F, members, kPackOf<members...>>::store(), ...); }
};

template <class F, auto... members>
bool is_aligned(const F& f, ElementArrays<members...>) {
  constexpr std::uintptr_t kPack = kPackOf<members...>;
  return ((reinterpret_cast<std::uintptr_t>(pointer_of(f.*members)) % (kPack * sizeof(typename Member<members>::T)) ==
           0) &&
          ...);
}

}  // namespace muonp::core::cuda
