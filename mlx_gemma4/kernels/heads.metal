// Norm and rotation of each head; with VALUES, behind them the norm alone of as many
// heads of `values`. One simdgroup for each head, PAIRS pairs that rotate to a lane.
const uint lane = thread_index_in_simdgroup;
const uint width = uint(x_shape[3]);
const uint middle = width / 2;
const uint heads = uint(x_shape[2]);
const uint number = thread_position_in_grid.x / 32;

#ifdef VALUES
const uint count = uint(x_shape[0] * x_shape[1]) * heads;
const bool rotates = number < count;
const uint base = (rotates ? number : number - count) * width;
const device T* from = rotates ? x + base : values + base;
#else
const uint base = number * width;
const device T* from = x + base;
#endif

float first[PAIRS];
float second[PAIRS];
float square = 0.0f;
for (uint j = 0; j < PAIRS; j++) {
  const uint i = lane + 32 * j;
  first[j] = i < middle ? float(from[i]) : 0.0f;
  second[j] = i < middle ? float(from[i + middle]) : 0.0f;
  square += first[j] * first[j] + second[j] * second[j];
}
const float sum = simd_sum(square);
const float scale = metal::precise::rsqrt(sum / float(width) + numbers[0]);

#ifdef VALUES
if (!rotates) {
  for (uint j = 0; j < PAIRS; j++) {
    const uint i = lane + 32 * j;
    if (i >= middle) continue;
    normed[base + i] = T(first[j] * scale);
    normed[base + i + middle] = T(second[j] * scale);
  }
  return;
}
#endif
const uint row = number / heads % uint(x_shape[1]);
const float position = float(offset[0] + int(row));
for (uint j = 0; j < PAIRS; j++) {
  const uint i = lane + 32 * j;
  if (i >= middle) continue;
  const float angle = position / periods[i];
  const float c = metal::precise::cos(angle);
  const float s = metal::precise::sin(angle);
  const float a = first[j] * scale * float(weight[i]);
  const float b = second[j] * scale * float(weight[i + middle]);
  rotated[base + i] = T(a * c - b * s);
  rotated[base + i + middle] = T(b * c + a * s);
}
