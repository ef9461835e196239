// 1 / rms of a head of D elements, for all lanes of a simdgroup.
template <typename T, uint D>
inline float head_scale(const device T* from, uint lane, float eps) {
  float square = 0.0f;
  for (uint j = 0; j < D / 128; j++) {
    const vec<T, 4> pack = *(const device vec<T, 4>*)(from + 4 * lane + 128 * j);
    for (uint e = 0; e < 4; e++) square += float(pack[e]) * float(pack[e]);
  }
  for (uint i = D / 128 * 128 + lane; i < D; i += 32)  // not in heads of 256 and 512
    square += float(from[i]) * float(from[i]);
  return metal::precise::rsqrt(simd_sum(square) / float(D) + eps);
}

// A pair of a head's elements, turned by `angle`.
inline float2 turned(float first, float second, float angle) {
  const float c = metal::precise::cos(angle);
  const float s = metal::precise::sin(angle);
  return float2(first * c - second * s, second * c + first * s);
}
