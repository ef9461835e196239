// Scalars and vectors. half and bfloat round to their type after every operation.
#pragma once
#ifdef __CUDACC_RTC__
#include "cuda_std.h"
#else
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#endif

typedef unsigned int uint;
typedef unsigned short ushort;
typedef unsigned char uchar;
typedef unsigned long ulong;

namespace metal {
inline float from_bits(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t to_bits(float x) { return std::bit_cast<uint32_t>(x); }

#ifdef __CUDACC_RTC__
inline uint16_t encode_half(float f) {
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(f));
  return bits;
}
inline float decode_half(uint16_t bits) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(bits));
  return f;
}
inline uint16_t encode_bfloat(float f) {
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(f));
  return bits;
}
#else
inline uint16_t encode_half(float f) {  // to nearest, ties to even
  uint32_t x = to_bits(f), sign = (x >> 16) & 0x8000u;
  x &= 0x7fffffffu;
  if (x > 0x7f800000u) return uint16_t(sign | 0x7e00u);
  if (x >= 0x477ff000u) return uint16_t(sign | 0x7c00u);
  if (x < 0x38800000u)  // subnormal: the addition rounds at 2^-24
    return uint16_t(sign | (to_bits(from_bits(x) + 0.5f) - 0x3f000000u));
  x += 0xc8000fffu + ((x >> 13) & 1u);
  return uint16_t(sign | (x >> 13));
}
inline float decode_half(uint16_t h) {
  uint32_t sign = uint32_t(h & 0x8000u) << 16, e = (h >> 10) & 31u, m = h & 0x3ffu;
  if (e == 31) return from_bits(sign | 0x7f800000u | (m << 13));
  if (e == 0) return (sign ? -1.0f : 1.0f) * float(m) * 0x1p-24f;
  return from_bits(sign | ((e + 112u) << 23) | (m << 13));
}
inline uint16_t encode_bfloat(float f) {
  uint32_t x = to_bits(f);
  if ((x & 0x7fffffffu) > 0x7f800000u) return uint16_t((x >> 16) | 0x40u);
  return uint16_t((x + 0x7fffu + ((x >> 16) & 1u)) >> 16);
}
#endif
inline float decode_bfloat(uint16_t b) { return from_bits(uint32_t(b) << 16); }

// Metal converts float to half implicitly, but float or int to bfloat only when asked.
template <uint16_t (*encode)(float), float (*decode)(uint16_t), bool implicit>
struct small_float {
  uint16_t bits;

  small_float() = default;
  template <class A>
    requires std::is_arithmetic_v<A>
  explicit(!implicit) small_float(A a) : bits(encode(float(a))) {}
  template <uint16_t (*e)(float), float (*d)(uint16_t), bool i>
    requires(i != implicit)
  explicit small_float(small_float<e, d, i> other) : bits(encode(float(other))) {}
  operator float() const { return decode(bits); }

  small_float& operator+=(float o) { return *this = small_float(float(*this) + o); }
  small_float& operator-=(float o) { return *this = small_float(float(*this) - o); }
  small_float& operator*=(float o) { return *this = small_float(float(*this) * o); }
  small_float& operator/=(float o) { return *this = small_float(float(*this) / o); }
  small_float operator-() const {
    small_float r;
    r.bits = bits ^ 0x8000u;
    return r;
  }

#define OPERATOR(op)                                                          \
  friend small_float operator op(small_float a, small_float b) {              \
    return small_float(float(a) op float(b));                                 \
  }                                                                           \
  friend float operator op(small_float a, float b) { return float(a) op b; }  \
  friend float operator op(float a, small_float b) { return a op float(b); }  \
  template <class A>                                                          \
    requires std::is_integral_v<A>                                            \
  friend small_float operator op(small_float a, A b) {                        \
    return small_float(float(a) op float(b));                                 \
  }                                                                           \
  template <class A>                                                          \
    requires std::is_integral_v<A>                                            \
  friend small_float operator op(A a, small_float b) {                        \
    return small_float(float(a) op float(b));                                 \
  }
  OPERATOR(+) OPERATOR(-) OPERATOR(*) OPERATOR(/)
#undef OPERATOR
};
}  // namespace metal

typedef metal::small_float<metal::encode_half, metal::decode_half, true> half;
typedef metal::small_float<metal::encode_bfloat, metal::decode_bfloat, false> bfloat;
typedef half float16_t;
typedef bfloat bfloat16_t;

namespace metal {
template <class T>
concept is_small = std::is_same_v<T, half> || std::is_same_v<T, bfloat>;
template <class T>
concept is_scalar = std::is_arithmetic_v<T> || is_small<T>;
template <class T>
concept is_float = std::is_floating_point_v<T> || is_small<T>;

template <class T, int N>
struct members {
  union {
    T d[N];
    struct {
      T x, y;
    };
  };
};
template <class T>
struct members<T, 3> {
  union {
    T d[3];
    struct {
      T x, y, z;
    };
  };
};
template <class T>
struct members<T, 4> {
  union {
    T d[4];
    struct {
      T x, y, z, w;
    };
  };
};

// Three components take the room of four, as in Metal.
template <class T, int N>
struct alignas(sizeof(T) * (N == 3 ? 4 : N)) vec : members<T, N> {
  vec() = default;
  template <class S>
    requires is_scalar<S>
  vec(S s) {
    for (int i = 0; i < N; i++) this->d[i] = T(s);
  }
  template <class U>
  explicit vec(const vec<U, N>& o) {
    for (int i = 0; i < N; i++) this->d[i] = T(o.d[i]);
  }
  template <class A, class B, class... Rest>
    requires(sizeof...(Rest) + 2 == N)
  vec(A a, B b, Rest... rest) {
    const T values[] = {T(a), T(b), T(rest)...};
    for (int i = 0; i < N; i++) this->d[i] = values[i];
  }
  T& operator[](size_t i) { return this->d[i]; }
  const T& operator[](size_t i) const { return this->d[i]; }
  vec operator-() const {
    vec r;
    for (int i = 0; i < N; i++) r.d[i] = -this->d[i];
    return r;
  }
};

#define OPERATOR(op)                                                        \
  template <class T, int N>                                                 \
  vec<T, N> operator op(const vec<T, N>& a, const vec<T, N>& b) {           \
    vec<T, N> r;                                                            \
    for (int i = 0; i < N; i++) r.d[i] = T(a.d[i] op b.d[i]);               \
    return r;                                                               \
  }                                                                         \
  template <class T, int N, class S>                                        \
    requires is_scalar<S>                                                   \
  vec<T, N> operator op(const vec<T, N>& a, S s) {                          \
    return a op vec<T, N>(s);                                               \
  }                                                                         \
  template <class T, int N, class S>                                        \
    requires is_scalar<S>                                                   \
  vec<T, N> operator op(S s, const vec<T, N>& a) {                          \
    return vec<T, N>(s) op a;                                               \
  }                                                                         \
  template <class T, int N, class S>                                        \
  vec<T, N>& operator op##=(vec<T, N>& a, const S& s) {                     \
    return a = a op s;                                                      \
  }
OPERATOR(+) OPERATOR(-) OPERATOR(*) OPERATOR(/)
OPERATOR(%) OPERATOR(&) OPERATOR(|) OPERATOR(^) OPERATOR(<<) OPERATOR(>>)
#undef OPERATOR

#define VECTORS(T, name)     \
  typedef vec<T, 2> name##2; \
  typedef vec<T, 3> name##3; \
  typedef vec<T, 4> name##4;
VECTORS(float, float) VECTORS(half, half) VECTORS(bfloat, bfloat)
VECTORS(int, int) VECTORS(uint, uint) VECTORS(short, short) VECTORS(ushort, ushort)
VECTORS(char, char) VECTORS(uchar, uchar) VECTORS(int64_t, long) VECTORS(uint64_t, ulong)
#undef VECTORS

template <class To, class From>
To as_type(const From& value) {
  return std::bit_cast<To>(value);
}
}  // namespace metal
