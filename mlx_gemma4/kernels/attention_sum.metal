// Attention over several spans of keys: their sums, each with the highest score it is
// relative to and the sum of its shares, become one. One thread for each element.
const uint d = thread_position_in_grid.x;
const uint query = thread_position_in_grid.y;
const uint width = threads_per_grid.x;
const uint spans = uint(unfinished_shape[1]);

float highest = levels[query * spans * 2];
for (uint s = 1; s < spans; s++)
  highest = max(highest, levels[(query * spans + s) * 2]);
float whole = 0.0f;
float sum = 0.0f;
for (uint s = 0; s < spans; s++) {
  const uint part = query * spans + s;
  const float kept = metal::precise::exp(levels[part * 2] - highest);
  whole += kept * unfinished[part * width + d];
  sum += kept * levels[part * 2 + 1];
}
out[query * width + d] = T(whole / sum);
