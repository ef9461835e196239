// Attention over several spans of keys: their sums, each relative to its own highest
// score, become one. One thread for each element; of what a span found besides, each
// lane holds that of one span.
const uint lane = thread_index_in_simdgroup;
const uint d = thread_position_in_grid.x;
const uint query = thread_position_in_grid.y;
const uint spans = uint(unfinished_shape[1]);
const uint width = uint(unfinished_shape[2]);
const uint first = query * spans;

const uint mine = first + min(lane, spans - 1);
const float highest = simd_max(levels[mine * 2]);
const float found = metal::precise::exp(levels[mine * 2] - highest);
const float kept = lane < spans ? found : 0.0f;
const float total = simd_sum(kept * levels[mine * 2 + 1]);
float sum = 0.0f;
for (uint s = 0; s < spans; s += 8) {
  float part[8];
  for (uint k = 0; k < 8; k++) {
    const bool inside = s + k < spans && d < width;
    part[k] = inside ? unfinished[(first + s + k) * width + d] : 0.0f;
  }
  for (uint k = 0; k < 8; k++) sum += part[k] * simd_shuffle(kept, ushort(s + k));
}
if (d < width) out[query * width + d] = T(sum / total);
