// Barriers, simdgroup operations and the product of simdgroup matrices on a warp.
//
// All 32 lanes have to take part: launches of part of a simdgroup are refused, and a
// kernel that has lanes part ways before an operation fails on the CPU already.
#pragma once
#include "metal_math.h"

#ifdef __CUDACC_RTC__
namespace metal_cpu {  // the name that what both share knows
inline unsigned lane() {
  unsigned lane;
  asm("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}
}  // namespace metal_cpu
#else
#include "cuda_on_cpu.h"
#endif

namespace metal {
enum class mem_flags : unsigned { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };
inline mem_flags operator|(mem_flags a, mem_flags b) {
  return mem_flags(unsigned(a) | unsigned(b));
}
// Both order device memory, too, for the threads they hold up.
inline void threadgroup_barrier(mem_flags) { __syncthreads(); }
inline void simdgroup_barrier(mem_flags) { __syncwarp(); }

template <class T>
T simd_shuffle(T value, uint from) {
  if constexpr (sizeof(T) < 4) {
    uint16_t bits;
    if constexpr (sizeof(T) == 2) bits = as_type<uint16_t>(value);
    else bits = as_type<uint8_t>(value);
    bits = uint16_t(__shfl_sync(~0u, uint(bits), from));
    if constexpr (sizeof(T) == 2) return as_type<T>(bits);
    else return as_type<T>(uint8_t(bits));
  } else {
    struct words {
      uint at[sizeof(T) / 4];
    };
    words all = as_type<words>(value);
    for (uint& word : all.at) word = __shfl_sync(~0u, word, from);
    return as_type<T>(all);
  }
}
template <class T>
T simd_shuffle_xor(T value, uint mask) {
  return simd_shuffle(value, metal_cpu::lane() ^ mask);
}
template <class T>
T simd_shuffle_down(T value, uint delta) {
  return simd_shuffle(value, min(metal_cpu::lane() + delta, 31u));
}
template <class T>
T simd_shuffle_up(T value, uint delta) {
  const uint lane = metal_cpu::lane();
  return simd_shuffle(value, lane < delta ? 0u : lane - delta);
}
template <class T>
T simd_broadcast(T value, uint from) {
  return simd_shuffle(value, from);
}
template <class T>
T simd_broadcast_first(T value) {
  return simd_shuffle(value, 0u);
}

#define REDUCTION(name, value)                  \
  template <class T>                            \
  T name(T a) {                                 \
    for (uint apart = 16; apart; apart /= 2) {  \
      const T b = simd_shuffle_xor(a, apart);   \
      a = T(value);                             \
    }                                           \
    return a;                                   \
  }
REDUCTION(simd_sum, a + b)
REDUCTION(simd_max, max(a, b))
REDUCTION(simd_min, min(a, b))
REDUCTION(simd_and, a & b)
REDUCTION(simd_or, a | b)
#undef REDUCTION
inline bool simd_any(bool v) { return __any_sync(~0u, v); }
inline bool simd_all(bool v) { return __all_sync(~0u, v); }
template <class T>
T simd_prefix_exclusive_sum(T value) {
  T sum = T(0);
  for (uint i = 0; i < 31; i++) {
    const T other = simd_shuffle(value, i);
    if (i < metal_cpu::lane()) sum = T(sum + other);
  }
  return sum;
}

template <class T, int R, int C>
struct simdgroup_matrix;
inline void fragment(int lane, int& row, int& column);
// The lane that holds these elements; the other way round than `fragment`.
inline uint holder(int row, int column) {
  return (column >> 1 & 1) | (row & 3) << 1 | (column >> 2) << 3 | (row >> 2) << 4;
}
template <class D, class A, class B, class C>
void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d,
                                   simdgroup_matrix<A, 8, 8> a,
                                   simdgroup_matrix<B, 8, 8> b,
                                   simdgroup_matrix<C, 8, 8> c) {
  int row, column;
  fragment(int(metal_cpu::lane()), row, column);
  float sums[2] = {float(c.elements.d[0]), float(c.elements.d[1])};
  for (int k = 0; k < 8; k++) {
    const float left = float(simd_shuffle(a.elements.d[k % 2], holder(row, k)));
    for (int e = 0; e < 2; e++)
      sums[e] += left * float(simd_shuffle(b.elements.d[e], holder(k, column)));
  }
  for (int e = 0; e < 2; e++) d.elements.d[e] = D(sums[e]);
}
}  // namespace metal
