// Accesses of 16 bytes: a thread loads a pack of neighbouring elements of each array into registers, calls a function for
// each of them, and stores what that wrote. For kernels of elements that name their arrays, and for arrays of rows
// (core/device/for_each.h).
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "core/device/cuda/error.h"

// A pack is as much as a thread has on its way at a time; unrolled further, loops over packs spill registers.
#ifdef __CUDACC__
#define MUONP_ONE_PACK _Pragma("unroll 1")
#else
#define MUONP_ONE_PACK
#endif

namespace muonp::core::cuda {

template <class T>
__host__ __device__ T* pointer_of(T* p) {
  return p;
}
template <class T>
__host__ __device__ T* pointer_of(const Written<T>& p) {
  return p.data;
}

// An array as a kernel holds it: const T*, T* or Written<T>.
template <class P>
struct Array {
  using T = std::remove_const_t<std::remove_pointer_t<decltype(pointer_of(std::declval<P>()))>>;
  static constexpr bool kRead = !std::is_same_v<P, Written<T>>, kWritten = !std::is_same_v<P, const T*>;
};
template <class P>
using ElementOf = typename Array<P>::T;

// Elements of a pack: so many that the largest type takes 16 bytes.
template <class... P>
inline constexpr int kPackOf = [] {
  std::size_t largest = 0;
  ((largest = sizeof(ElementOf<P>) > largest ? sizeof(ElementOf<P>) : largest), ...);
  return 16 / static_cast<int>(largest);
}();

template <class... P>
__host__ __device__ bool is_aligned(const P&... arrays) {
  return ((reinterpret_cast<std::uintptr_t>(pointer_of(arrays)) % (kPackOf<P...> * sizeof(ElementOf<P>)) == 0) && ...);
}

template <class T, int n>
struct Values {
  T at[n];
};
template <class T, int n>
using Raw = std::conditional_t<sizeof(T) * n == 16, uint4, uint2>;

// The first `count` of n elements from `from` on; all of them in one access where `aligned` allows it.
template <class T, int n>
__device__ void load_some(const T* from, std::int64_t count, bool aligned, Values<T, n>& to) {
  if (aligned && count >= n) {
    to = std::bit_cast<Values<T, n>>(*reinterpret_cast<const Raw<T, n>*>(from));
  } else {
    for (int i = 0; i < n; ++i)
      if (i < count) to.at[i] = from[i];
  }
}
template <class T, int n>
__device__ void store_some(T* to, std::int64_t count, bool aligned, const Values<T, n>& from) {
  if (aligned && count >= n) {
    *reinterpret_cast<Raw<T, n>*>(to) = std::bit_cast<Raw<T, n>>(from);
  } else {
    for (int i = 0; i < n; ++i)
      if (i < count) to[i] = from.at[i];
  }
}

// Elements [first, first + n) of an array, in registers from construction to store().
template <class P, int n>
struct Pack {
  using T = ElementOf<P>;
  static_assert(sizeof(Raw<T, n>) == sizeof(Values<T, n>));

  T* array;
  Values<T, n> values;

  __device__ Pack(const P& whole, std::int64_t first) : array(const_cast<T*>(pointer_of(whole)) + first) {
    if constexpr (Array<P>::kRead) values = std::bit_cast<Values<T, n>>(*reinterpret_cast<const Raw<T, n>*>(array));
  }
  __device__ void store() const {
    if constexpr (Array<P>::kWritten) *reinterpret_cast<Raw<T, n>*>(array) = std::bit_cast<Raw<T, n>>(values);
  }
};

template <int n, class F, class... Packs>
__device__ void call_on_packs(const F& f, Packs&&... packs) {
  for (int k = 0; k < n; ++k) f(packs.values.at[k]...);
  (packs.store(), ...);
}

// f(arrays[c]...) for the columns c < cols that belong to `thread` of `threads`.
template <class F, class... P>
__device__ void over_columns(std::int64_t cols, int thread, int threads, const F& f, P... arrays) {
  constexpr int kPack = kPackOf<P...>;
  std::int64_t done = 0;
  if (is_aligned(arrays...)) {
    const std::int64_t packs = cols / kPack;
    MUONP_ONE_PACK
    for (std::int64_t i = thread; i < packs; i += threads) call_on_packs<kPack>(f, Pack<P, kPack>(arrays, i * kPack)...);
    done = packs * kPack;
  }
  for (std::int64_t c = done + thread; c < cols; c += threads) f(arrays[c]...);
}

// ---- members of a kernel of elements ----

template <class T>
struct MemberType;
template <class F, class P>
struct MemberType<P F::*> {
  using Type = P;
};
template <auto member>
using TypeOf = typename MemberType<decltype(member)>::Type;
template <auto... members>
inline constexpr int kMemberPack = kPackOf<TypeOf<members>...>;

// Points the member of `f` at the pack's registers.
template <class F, auto member, int n>
struct MemberPack : Pack<TypeOf<member>, n> {
  __device__ MemberPack(F& f, std::int64_t first) : Pack<TypeOf<member>, n>(f.*member, first) {
    f.*member = TypeOf<member>{this->values.at};
  }
};

// The kernel `f` works on the pack from `first` on as long as this lives.
template <class F, auto... members>
struct MemberPacks : MemberPack<F, members, kMemberPack<members...>>... {
  __device__ MemberPacks(F& f, std::int64_t first) : MemberPack<F, members, kMemberPack<members...>>(f, first)... {}
  MemberPacks(const MemberPacks&) = delete;
  __device__ void store() const { (MemberPack<F, members, kMemberPack<members...>>::store(), ...); }
};

}  // namespace muonp::core::cuda
