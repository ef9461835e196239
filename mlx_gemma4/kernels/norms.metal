// out = (h + norm(y)) * scalar, where y is x, or norm(x) + norm(x2) with TWO; and the
// norms of out that come next. One threadgroup of THREADS for each row; a thread keeps
// COUNT packs of four elements, and reads every weight before the first sum.
typedef vec<T, 4> Pack;
constexpr uint PACKS = THREADS * COUNT;
constexpr float WIDTH = 4 * PACKS;
constexpr uint SIMDGROUPS = (THREADS + 31) / 32;
#define EACH                             \
  for (uint k = 0; k < COUNT; k++)       \
    for (uint e = 0; e < 4; e++)
#define PACK(name, start) ((const device Pack*)name)[start + tid + k * THREADS]
threadgroup float part_x[32];
threadgroup float part_out[32];
const uint tid = thread_index_in_threadgroup;
const uint base = threadgroup_position_in_grid.x * PACKS;
const float eps = numbers[0];

Pack xs[COUNT], hs[COUNT], posts[COUNT];
for (uint k = 0; k < COUNT; k++) {
  xs[k] = PACK(x, base);
  hs[k] = PACK(h, base);
  posts[k] = PACK(post, 0);
}
#ifdef TWO
Pack others[COUNT], x_posts[COUNT], other_posts[COUNT];
for (uint k = 0; k < COUNT; k++) {
  others[k] = PACK(x2, base);
  x_posts[k] = PACK(post_x, 0);
  other_posts[k] = PACK(post_x2, 0);
}
#endif
#ifdef NORMS
Pack weights[NORMS][COUNT];
for (uint k = 0; k < COUNT; k++) {
  weights[0][k] = PACK(norm1, 0);
#if NORMS > 1
  weights[1][k] = PACK(norm2, 0);
#endif
#if NORMS > 2
  weights[2][k] = PACK(norm3, 0);
#endif
}
#endif

float y[COUNT][4];
float square = 0.0f;
EACH {
  y[k][e] = float(xs[k][e]);
  square += y[k][e] * y[k][e];
}
float sum = threadgroup_sum(square, part_x, tid, SIMDGROUPS);
float scale = metal::precise::rsqrt(sum / WIDTH + eps);

#ifdef TWO
threadgroup float part_x2[32];
threadgroup float part_y[32];
square = 0.0f;
EACH square += float(others[k][e]) * float(others[k][e]);
sum = threadgroup_sum(square, part_x2, tid, SIMDGROUPS);
const float scale2 = metal::precise::rsqrt(sum / WIDTH + eps);
square = 0.0f;
EACH {
  y[k][e] = y[k][e] * scale * float(x_posts[k][e]) +
            float(others[k][e]) * scale2 * float(other_posts[k][e]);
  square += y[k][e] * y[k][e];
}
sum = threadgroup_sum(square, part_y, tid, SIMDGROUPS);
scale = metal::precise::rsqrt(sum / WIDTH + eps);
#endif

square = 0.0f;
for (uint k = 0; k < COUNT; k++) {
  Pack made;
  for (uint e = 0; e < 4; e++) {
    float value = float(hs[k][e]) + y[k][e] * scale * float(posts[k][e]);
#ifdef SCALED
    value *= float(scalar[0]);
#endif
    made[e] = T(value);
    y[k][e] = float(made[e]);  // what follows sees what was stored
    square += y[k][e] * y[k][e];
  }
  ((device Pack*)out)[base + tid + k * THREADS] = made;
}

#ifdef NORMS
sum = threadgroup_sum(square, part_out, tid, SIMDGROUPS);
scale = metal::precise::rsqrt(sum / WIDTH + eps);
for (uint n = 0; n < NORMS; n++) {
  device T* normed = normed1;
#if NORMS > 1
  if (n == 1) normed = normed2;
#endif
#if NORMS > 2
  if (n == 2) normed = normed3;
#endif
  for (uint k = 0; k < COUNT; k++) {
    Pack made;
    for (uint e = 0; e < 4; e++)
      made[e] = T(y[k][e] * scale * float(weights[n][k][e]) * numbers[1 + n]);
    ((device Pack*)normed)[base + tid + k * THREADS] = made;
  }
}
#endif
