// What kernels use of Metal, for clang: with real address spaces, and with functions
// that are overloaded as in Metal, so that a call is ambiguous here where it is there.
// Made for AMD's GPUs: 32 lanes, one instruction for each operation of a simdgroup.
typedef unsigned int uint;
typedef unsigned short ushort;
typedef unsigned char uchar;
typedef unsigned long ulong;
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long int64_t;
typedef uchar uint8_t;
typedef ushort uint16_t;
typedef uint uint32_t;
typedef ulong uint64_t;
typedef ulong size_t;
typedef _Float16 half;
typedef __bf16 bfloat;
typedef half float16_t;
typedef bfloat bfloat16_t;

#define device __attribute__((address_space(1)))
#define constant __attribute__((address_space(4)))
#define threadgroup __attribute__((address_space(3)))
#define thread
#define THREADGROUP [[clang::loader_uninitialized]] static threadgroup

#define KERNEL extern "C" __attribute__((amdgpu_kernel, flatten))

#define INFINITY __builtin_inff()
#define M_PI_F 3.14159265358979323846f

namespace metal {
template <class T, int N>
using vec = T __attribute__((ext_vector_type(N)));
#define VECTORS(T)          \
  typedef vec<T, 2> T##2;   \
  typedef vec<T, 3> T##3;   \
  typedef vec<T, 4> T##4;
VECTORS(float) VECTORS(half) VECTORS(bfloat) VECTORS(int) VECTORS(uint)
VECTORS(short) VECTORS(ushort) VECTORS(uchar)
#undef VECTORS

// `float4(…)`, which the text says as `vector<float, 4>(…)` here.
template <class T, int N>
vec<T, N> vector(T all) {
  return all;
}
template <class T, int N, class S>
vec<T, N> vector(vec<S, N> of) {
  return __builtin_convertvector(of, vec<T, N>);
}
template <class T, int N, class A, class... Rest>
  requires(sizeof...(Rest) + 2 == N)
vec<T, N> vector(A first, A second, Rest... rest) {
  return vec<T, N>{T(first), T(second), T(rest)...};
}
template <class To, class From>
To as_type(From value) {
  return __builtin_bit_cast(To, value);
}

#define EACH_TYPE(F) \
  F(float) F(half) F(bfloat) F(int) F(uint) F(short) F(ushort) F(long) F(ulong)
#define CHOICES(T)                                                \
  inline T min(T a, T b) { return b < a ? b : a; }                \
  inline T max(T a, T b) { return a < b ? b : a; }                \
  inline T clamp(T x, T low, T high) { return min(max(x, low), high); } \
  inline T abs(T a) { return a < T(0) ? T(-a) : a; }              \
  inline T select(T a, T b, bool second) { return second ? b : a; }
EACH_TYPE(CHOICES)
#undef CHOICES

#define TRANSCENDENTAL                                                            \
  inline float exp2(float x) { return __builtin_amdgcn_exp2f(x); }                \
  inline float exp(float x) { return exp2(x * 1.44269504f); }                     \
  inline float log2(float x) { return __builtin_amdgcn_logf(x); }                 \
  inline float log(float x) { return log2(x) * 0.69314718f; }                     \
  inline float sqrt(float x) { return __builtin_amdgcn_sqrtf(x); }                \
  inline float rsqrt(float x) { return __builtin_amdgcn_rsqf(x); }                \
  inline float sin(float x) { return __builtin_amdgcn_sinf(x * 0.15915494f); }    \
  inline float cos(float x) { return __builtin_amdgcn_cosf(x * 0.15915494f); }    \
  inline float tanh(float x) { return 1.0f - 2.0f / (exp(2.0f * x) + 1.0f); }
TRANSCENDENTAL
namespace fast {
TRANSCENDENTAL
}
namespace precise {
TRANSCENDENTAL
}
#undef TRANSCENDENTAL
inline float pow(float a, float b) { return exp2(b * log2(a)); }
inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float floor(float x) { return __builtin_floorf(x); }
inline float ceil(float x) { return __builtin_ceilf(x); }
inline float rint(float x) { return __builtin_rintf(x); }
inline float trunc(float x) { return __builtin_truncf(x); }
inline float fabs(float x) { return __builtin_fabsf(x); }
inline float round(float x) { return __builtin_roundf(x); }
template <int N>
float dot(vec<float, N> a, vec<float, N> b) {
  float sum = 0.0f;
  for (int i = 0; i < N; i++) sum += a[i] * b[i];
  return sum;
}

enum class mem_flags { mem_none, mem_device, mem_threadgroup };
inline void threadgroup_barrier(mem_flags) { asm volatile("s_barrier" ::: "memory"); }
inline void simdgroup_barrier(mem_flags) { asm volatile("" ::: "memory"); }

// Not what they compute, but what they cost.
#define SIMD(T)                                                            \
  inline T simd_alone(T x) {                                               \
    T result;                                                              \
    asm("v_mov_b32 %0, %1 ; simd" : "=v"(result) : "v"(x));                \
    return result;                                                         \
  }                                                                        \
  inline T simd_with(T x, uint lane) {                                     \
    T result;                                                              \
    asm("v_mov_b32 %0, %1 ; simd %2" : "=v"(result) : "v"(x), "v"(lane));  \
    return result;                                                         \
  }                                                                        \
  inline T simd_sum(T x) { return simd_alone(x); }                         \
  inline T simd_max(T x) { return simd_alone(x); }                         \
  inline T simd_min(T x) { return simd_alone(x); }                         \
  inline T simd_broadcast_first(T x) { return simd_alone(x); }             \
  inline T simd_prefix_exclusive_sum(T x) { return simd_alone(x); }        \
  inline T simd_shuffle(T x, ushort lane) { return simd_with(x, lane); }   \
  inline T simd_shuffle_xor(T x, ushort by) { return simd_with(x, by); }   \
  inline T simd_shuffle_up(T x, ushort by) { return simd_with(x, by); }    \
  inline T simd_shuffle_down(T x, ushort by) { return simd_with(x, by); }  \
  inline T simd_broadcast(T x, ushort lane) { return simd_with(x, lane); }
SIMD(float) SIMD(half) SIMD(int) SIMD(uint) SIMD(short) SIMD(ushort)
#undef SIMD
inline uint simd_or(uint x) { return simd_alone(x); }
inline uint simd_and(uint x) { return simd_alone(x); }
inline bool simd_any(bool x) { return simd_or(x); }
inline bool simd_all(bool x) { return simd_and(x); }

// The compiler may not know more of a number than Metal's does.
inline uint opaque(uint number) {
  uint result;
  asm("" : "=v"(result) : "0"(number));
  return result;
}

// A kernel's attributes, for threadgroups of this size.
template <uint X, uint Y, uint Z>
struct Threads {
#define EACH_AXIS(F) uint3{F(x, X), F(y, Y), F(z, Z)}
#define PLACE(axis, size) opaque(__builtin_amdgcn_workitem_id_##axis())
#define NUMBER(axis, size) __builtin_amdgcn_workgroup_id_##axis()
#define GRID(axis, size) __builtin_amdgcn_grid_size_##axis()
#define SIZE(axis, size) size
  static uint3 thread_position_in_threadgroup() { return EACH_AXIS(PLACE); }
  static uint3 threadgroup_position_in_grid() { return EACH_AXIS(NUMBER); }
  static uint3 threads_per_threadgroup() { return EACH_AXIS(SIZE); }
  static uint3 threads_per_grid() { return EACH_AXIS(GRID); }
#undef EACH_AXIS
#undef PLACE
#undef NUMBER
#undef GRID
#undef SIZE
  static uint3 thread_position_in_grid() {
    return threadgroup_position_in_grid() * threads_per_threadgroup() +
           thread_position_in_threadgroup();
  }
  static uint3 threadgroups_per_grid() {
    return threads_per_grid() / threads_per_threadgroup();
  }
  static uint thread_index_in_threadgroup() {
    const uint3 at = thread_position_in_threadgroup();
    return opaque(at.x + X * (at.y + Y * at.z));
  }
  static uint thread_index_in_simdgroup() {
    return opaque(thread_index_in_threadgroup() % 32);
  }
  static uint simdgroup_index_in_threadgroup() {
    return __builtin_amdgcn_readfirstlane(thread_index_in_threadgroup() / 32);
  }
  static uint simdgroups_per_threadgroup() { return (X * Y * Z + 31) / 32; }
  static uint threads_per_simdgroup() { return 32; }
};
}  // namespace metal
using namespace metal;
