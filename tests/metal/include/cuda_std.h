// What Metal's types need of the C++ library, which NVRTC comes without.
#pragma once
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long uint64_t;
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long int64_t;

// Concepts, where the library has variables: NVRTC would keep those in every program.
namespace std {
template <class A, class B>
struct same {
  static constexpr bool value = false;
};
template <class A>
struct same<A, A> {
  static constexpr bool value = true;
};
template <class A, class B>
concept is_same_v = same<A, B>::value;
template <class T, class... Others>
concept is_one_of = (is_same_v<T, Others> || ...);
template <class T>
concept is_floating_point_v = is_one_of<T, float, double>;
template <class T>
concept is_integral_v =
    is_one_of<T, bool, char, signed char, unsigned char, short, unsigned short, int,
              unsigned int, long, unsigned long, long long, unsigned long long>;
template <class T>
concept is_arithmetic_v = is_integral_v<T> || is_floating_point_v<T>;
template <class T>
concept is_signed_v = is_arithmetic_v<T> && T(-1) < T(0);
template <class To, class From>
To bit_cast(const From& value) {
  return __builtin_bit_cast(To, value);
}
}  // namespace std
