// Barriers, simdgroup operations and 8x8 simdgroup matrices.
#pragma once
#include "metal_math.h"

#ifdef METAL_CUDA
#include "cuda_simd.h"
#else
#include <source_location>

#include "runtime.h"

namespace metal {
typedef std::source_location Where;
enum class mem_flags : unsigned { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };
inline mem_flags operator|(mem_flags a, mem_flags b) {
  return mem_flags(unsigned(a) | unsigned(b));
}
inline void threadgroup_barrier(mem_flags f, Where w = Where::current()) {
  metal_cpu::threadgroup_wait(unsigned(f), w.line(), w.column());
}
inline void simdgroup_barrier(mem_flags f, Where w = Where::current()) {
  metal_cpu::simdgroup_wait(unsigned(f), w.line(), w.column());
}

// What one lane brings to an operation and takes away from it.
template <class T>
struct slot {
  T value;
  uint argument;
  T result;
};
template <class T, class F>
T together(T value, uint argument, Where w, F) {
  slot<T> s{value, argument, value};
  auto run = [](void** slots, uint32_t active) { F{}((slot<T>**)slots, active); };
  metal_cpu::collective(&s, run, w.line(), w.column());
  return s.result;
}
#define EACH_ACTIVE(i)          \
  for (int i = 0; i < 32; i++) \
    if (active >> i & 1)

// Pairwise, as a butterfly would; Metal leaves the order open.
template <class T, class Op>
void reduce(slot<T>** lanes, uint32_t active, T identity, Op op) {
  T t[32];
  for (int i = 0; i < 32; i++) t[i] = (active >> i & 1) ? lanes[i]->value : identity;
  for (int h = 16; h; h >>= 1)
    for (int i = 0; i < h; i++) t[i] = op(t[i], t[i + h]);
  EACH_ACTIVE(i) lanes[i]->result = t[0];
}
#define REDUCTION(name, identity, value)                                     \
  template <class T>                                                         \
  T name(T v, Where w = Where::current()) {                                  \
    return together(v, 0u, w, [](slot<T>** lanes, uint32_t active) {         \
      reduce(lanes, active, T(identity), [](T a, T b) { return T(value); }); \
    });                                                                      \
  }
REDUCTION(simd_sum, 0, a + b)
REDUCTION(simd_max, lowest<T>(), max(a, b))
REDUCTION(simd_min, highest<T>(), min(a, b))
REDUCTION(simd_and, ~T(0), a & b)
REDUCTION(simd_or, 0, a | b)
#undef REDUCTION
inline bool simd_any(bool v, Where w = Where::current()) {
  return simd_or(uint(v), w) != 0;
}
inline bool simd_all(bool v, Where w = Where::current()) {
  return simd_and(v ? ~0u : 0u, w) != 0;
}

// To read a lane that is not active is undefined in Metal. A fault, except past the
// ends for up and down, whose results there a kernel must not use: poison.
template <class T>
T poison() {
  T t;
  __builtin_memset((void*)&t, 0xff, sizeof t);
  return t;
}
#define SHUFFLE(name, source, strict)                                          \
  template <class T>                                                           \
  T name(T v, uint d, Where w = Where::current()) {                            \
    return together(v, d, w, [](slot<T>** lanes, uint32_t active) {            \
      EACH_ACTIVE(i) {                                                         \
        int argument = int(lanes[i]->argument), from = source;                 \
        bool valid = from >= 0 && from < 32 && (active >> from & 1);           \
        if (strict && !valid)                                                  \
          metal_cpu::fault(#name " reads lane %d, which is not active", from); \
        lanes[i]->result = valid ? lanes[from]->value : poison<T>();           \
      }                                                                        \
    });                                                                        \
  }
SHUFFLE(simd_shuffle, argument, true)
SHUFFLE(simd_shuffle_xor, i ^ argument, true)
SHUFFLE(simd_broadcast, argument, true)
SHUFFLE(simd_shuffle_down, i + argument, false)
SHUFFLE(simd_shuffle_up, i - argument, false)
#undef SHUFFLE
template <class T>
T simd_broadcast_first(T v, Where w = Where::current()) {
  return together(v, 0u, w, [](slot<T>** lanes, uint32_t active) {
    int first = std::countr_zero(active);
    EACH_ACTIVE(i) lanes[i]->result = lanes[first]->value;
  });
}
template <class T>
T simd_prefix_exclusive_sum(T v, Where w = Where::current()) {
  return together(v, 0u, w, [](slot<T>** lanes, uint32_t active) {
    T sum = T(0);
    EACH_ACTIVE(i) {
      lanes[i]->result = sum;
      sum = T(sum + lanes[i]->value);
    }
  });
}
}  // namespace metal
#endif

namespace metal {
// Two elements a lane, where MLX's own kernels find them on Apple's GPUs.
inline void fragment(int lane, int& row, int& column) {
  int quad = lane / 4;
  row = (quad & 4) + ((lane / 2) % 4);
  column = (quad & 2) * 2 + (lane % 2) * 2;
}
template <class T, int R = 8, int C = 8>
struct simdgroup_matrix {
  static_assert(R == 8 && C == 8);
  vec<T, 2> elements;
  simdgroup_matrix() = default;
  explicit simdgroup_matrix(T v) : elements(v) {}
  vec<T, 2>& thread_elements() { return elements; }
};
template <class T, int R, int C>
simdgroup_matrix<T, R, C> make_filled_simdgroup_matrix(T v) {
  return simdgroup_matrix<T, R, C>(v);
}
template <class F>
void each_element(ulong stride, ulong2 origin, bool transposed, F f) {
  int row, column;
  fragment(int(metal_cpu::lane()), row, column);
  for (int k = 0; k < 2; k++) {
    ulong r = transposed ? column + k : row, c = transposed ? row : column + k;
    f(k, (origin.y + r) * stride + origin.x + c);
  }
}
template <class T, class P>
void simdgroup_load(simdgroup_matrix<T>& m, const P* from, ulong stride = 8,
                    ulong2 origin = ulong2(0), bool transposed = false) {
  each_element(stride, origin, transposed,
               [&](int k, ulong at) { m.elements.d[k] = T(from[at]); });
}
template <class T, class P>
void simdgroup_store(simdgroup_matrix<T> m, P* to, ulong stride = 8,
                     ulong2 origin = ulong2(0), bool transposed = false) {
  each_element(stride, origin, transposed,
               [&](int k, ulong at) { to[at] = P(m.elements.d[k]); });
}
#ifndef METAL_CUDA
template <class D, class A, class B, class C>
struct product {
  simdgroup_matrix<A> a;
  simdgroup_matrix<B> b;
  simdgroup_matrix<C> c;
  simdgroup_matrix<D> d;
};
template <class D, class A, class B, class C>
void multiply(void** slots, uint32_t active) {
  typedef product<D, A, B, C> P;
  if (active != ~0u) metal_cpu::fault("a simdgroup matrix with inactive lanes");
  float a[8][8], b[8][8], c[8][8];
  for (int i = 0, r, q; i < 32; i++) {
    fragment(i, r, q);
    for (int k = 0; k < 2; k++) {
      a[r][q + k] = float(((P*)slots[i])->a.elements.d[k]);
      b[r][q + k] = float(((P*)slots[i])->b.elements.d[k]);
      c[r][q + k] = float(((P*)slots[i])->c.elements.d[k]);
    }
  }
  for (int i = 0; i < 8; i++)
    for (int j = 0; j < 8; j++)
      for (int k = 0; k < 8; k++) c[i][j] += a[i][k] * b[k][j];
  for (int i = 0, r, q; i < 32; i++) {
    fragment(i, r, q);
    for (int k = 0; k < 2; k++) ((P*)slots[i])->d.elements.d[k] = D(c[r][q + k]);
  }
}
template <class D, class A, class B, class C>
void simdgroup_multiply_accumulate(simdgroup_matrix<D>& d, simdgroup_matrix<A> a,
                                   simdgroup_matrix<B> b, simdgroup_matrix<C> c,
                                   Where w = Where::current()) {
  product<D, A, B, C> p{a, b, c, d};
  metal_cpu::collective(&p, multiply<D, A, B, C>, w.line(), w.column());
  d = p.d;
}
#endif
}  // namespace metal
