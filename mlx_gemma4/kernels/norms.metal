// out = (h + norm(y)) * scalar, where y is x, or norm(x) + norm(x2) with TWO; and the
// norms of out that come next. One threadgroup of THREADS for each row, COUNT elements
// for each thread, kept in registers.
threadgroup float part_x[32];
threadgroup float part_out[32];
const uint row = threadgroup_position_in_grid.x;
const uint tid = thread_index_in_threadgroup;
const uint width = uint(h_shape[1]);
const uint base = row * width;
const float eps = numbers[0];

float y[COUNT];
float square = 0.0f;
for (uint k = 0; k < COUNT; k++) {
  const uint i = tid + k * THREADS;
  y[k] = i < width ? float(x[base + i]) : 0.0f;
  square += y[k] * y[k];
}
float sum = threadgroup_sum(square, part_x, tid, THREADS / 32);
float scale = metal::precise::rsqrt(sum / float(width) + eps);

#ifdef TWO
threadgroup float part_x2[32];
threadgroup float part_y[32];
float other[COUNT];
square = 0.0f;
for (uint k = 0; k < COUNT; k++) {
  const uint i = tid + k * THREADS;
  other[k] = i < width ? float(x2[base + i]) : 0.0f;
  square += other[k] * other[k];
}
sum = threadgroup_sum(square, part_x2, tid, THREADS / 32);
const float scale2 = metal::precise::rsqrt(sum / float(width) + eps);
square = 0.0f;
for (uint k = 0; k < COUNT; k++) {
  const uint i = tid + k * THREADS;
  if (i < width)
    y[k] = y[k] * scale * float(post_x[i]) + other[k] * scale2 * float(post_x2[i]);
  square += y[k] * y[k];
}
sum = threadgroup_sum(square, part_y, tid, THREADS / 32);
scale = metal::precise::rsqrt(sum / float(width) + eps);
#endif

square = 0.0f;
for (uint k = 0; k < COUNT; k++) {
  const uint i = tid + k * THREADS;
  if (i >= width) continue;
  float value = float(h[base + i]) + y[k] * scale * float(post[i]);
#ifdef SCALED
  value *= float(scalar[0]);
#endif
  const T rounded = T(value);
  out[base + i] = rounded;
  y[k] = float(rounded);  // what follows sees what was stored
  square += y[k] * y[k];
}

#ifdef NORMS
sum = threadgroup_sum(square, part_out, tid, THREADS / 32);
scale = metal::precise::rsqrt(sum / float(width) + eps);
for (uint k = 0; k < COUNT; k++) {
  const uint i = tid + k * THREADS;
  if (i >= width) continue;
  const float value = y[k] * scale;
  normed1[base + i] = T(value * float(norm1[i]) * numbers[1]);
#if NORMS > 1
  normed2[base + i] = T(value * float(norm2[i]) * numbers[2]);
#endif
#if NORMS > 2
  normed3[base + i] = T(value * float(norm3[i]) * numbers[3]);
#endif
}
#endif
