// Attention over several spans of keys: their sums, each relative to its own highest
// score, become one. One thread for each element; of what a span found besides, each
// lane holds that of every 32nd span.
const uint lane = thread_index_in_simdgroup;
const uint d = min(thread_position_in_grid.x, uint(D - 1));
const uint query = thread_position_in_grid.y;
const uint spans = uint(unfinished_shape[1]);
const uint first = query * spans;

float highest = -3e38f;
for (uint s = lane; s < spans; s += 32) highest = max(highest, levels[(first + s) * 2]);
highest = simd_max(highest);
float total = 0.0f;
float sum = 0.0f;
for (uint start = 0; start < spans; start += 32) {
  const uint mine = first + min(start + lane, spans - 1);
  const float found = metal::precise::exp(levels[mine * 2] - highest);
  const float kept = start + lane < spans ? found : 0.0f;
  total += simd_sum(kept * levels[mine * 2 + 1]);
  for (uint s = 0; s < min(spans - start, 32u); s += 8) {
    float part[8];
    for (uint k = 0; k < 8; k++)
      part[k] = unfinished[(first + min(start + s + k, spans - 1)) * D + d];
    for (uint k = 0; k < 8; k++) sum += part[k] * simd_shuffle(kept, ushort(s + k));
  }
}
if (D % 32 == 0 || thread_position_in_grid.x < D) out[query * D + d] = T(sum / total);
