// Mathematical functions and atomics.
#pragma once
#ifndef __CUDACC_RTC__
#include <cmath>

#include "runtime.h"
#endif

#include "metal_types.h"

#undef INFINITY
#define INFINITY __builtin_bit_cast(float, 0x7f800000u)
#define M_PI_F 3.14159265358979323846f

namespace metal {
#define UNARY(name, value)                                     \
  inline float name(float x) { return value; }                 \
  template <class T>                                           \
    requires is_small<T>                                       \
  T name(T v) {                                                \
    return T(name(float(v)));                                  \
  }                                                            \
  template <class T, int N>                                    \
  vec<T, N> name(const vec<T, N>& v) {                         \
    vec<T, N> r;                                               \
    for (int i = 0; i < N; i++) r.d[i] = name(v.d[i]);         \
    return r;                                                  \
  }
#define TRANSCENDENTAL                                                       \
  UNARY(exp, ::expf(x)) UNARY(exp2, ::exp2f(x)) UNARY(log, ::logf(x))        \
  UNARY(log2, ::log2f(x)) UNARY(sqrt, ::sqrtf(x)) UNARY(tanh, ::tanhf(x))    \
  UNARY(rsqrt, 1.0f / ::sqrtf(x)) UNARY(sin, ::sinf(x)) UNARY(cos, ::cosf(x))
TRANSCENDENTAL
UNARY(floor, ::floorf(x)) UNARY(ceil, ::ceilf(x)) UNARY(rint, ::rintf(x))
UNARY(round, ::roundf(x)) UNARY(trunc, ::truncf(x)) UNARY(fabs, ::fabsf(x))
inline float pow(float a, float b) { return ::powf(a, b); }
// On Apple's GPUs the two differ in accuracy; here both are the C library's.
namespace fast {
TRANSCENDENTAL
}
namespace precise {
TRANSCENDENTAL
}
#undef TRANSCENDENTAL
#undef UNARY

inline float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
template <class T>
  requires is_scalar<T>
T max(T a, T b) {
  if constexpr (is_float<T>) return T(::fmaxf(float(a), float(b)));
  else return a < b ? b : a;
}
template <class T>
  requires is_scalar<T>
T min(T a, T b) {
  if constexpr (is_float<T>) return T(::fminf(float(a), float(b)));
  else return b < a ? b : a;
}
template <class T>
T clamp(T value, T low, T high) {
  return min(max(value, low), high);
}
template <class T>
  requires is_scalar<T>
T abs(T v) {
  if constexpr (is_float<T>) return T(::fabsf(float(v)));
  else return v < T(0) ? T(-v) : v;
}
template <class T>
T select(T a, T b, bool c) {
  return c ? b : a;
}
template <class T, int N>
T dot(const vec<T, N>& a, const vec<T, N>& b) {
  T sum = T(0);
  for (int i = 0; i < N; i++) sum = T(sum + a.d[i] * b.d[i]);
  return sum;
}
template <class T>
  requires is_float<T>
bool isnan(T v) {
  return float(v) != float(v);
}
// The ends of a type's range.
template <class T>
T lowest() {
  if constexpr (is_float<T>) return T(-INFINITY);
  else return std::is_signed_v<T> ? T(T(1) << (8 * sizeof(T) - 1)) : T(0);
}
template <class T>
T highest() {
  if constexpr (is_float<T>) return T(INFINITY);
  else return T(~lowest<T>());
}

template <class T>
struct atomic {
  T value;
};
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<float> atomic_float;
enum memory_order { memory_order_relaxed };
#ifdef __CUDACC_RTC__
template <class T, class F>
T atomic_update(atomic<T>* place, F next) {
  unsigned* bits = (unsigned*)place;
  unsigned old, seen = *(volatile unsigned*)bits;
  do {
    old = seen;
    seen = atomicCAS(bits, old, as_type<unsigned>(next(as_type<T>(old))));
  } while (seen != old);
  return as_type<T>(old);
}
template <class T>
T atomic_load_explicit(const atomic<T>* place, memory_order) {
  return *(const volatile T*)&place->value;
}
#else
// Threads take turns only at barriers and simd operations, so plain code is atomic.
template <class T, class F>
T atomic_update(atomic<T>* place, F next) {
  metal_cpu::Unchecked unchecked;
  T old = place->value;
  place->value = next(old);
  return old;
}
template <class T>
T atomic_load_explicit(const atomic<T>* place, memory_order) {
  metal_cpu::Unchecked unchecked;
  return place->value;
}
#endif
template <class T, class U>
void atomic_store_explicit(atomic<T>* place, U v, memory_order) {
  atomic_update(place, [&](T) { return T(v); });
}
#define UPDATE(name, next)                                                  \
  template <class T, class U>                                               \
  T atomic_fetch_##name##_explicit(atomic<T>* place, U u, memory_order) {   \
    T b = T(u);                                                             \
    return atomic_update(place, [&](T a) { return T(next); });              \
  }
UPDATE(add, a + b) UPDATE(sub, a - b) UPDATE(max, a < b ? b : a)
UPDATE(min, b < a ? b : a) UPDATE(or, a | b) UPDATE(and, a & b)
#undef UPDATE
}  // namespace metal
