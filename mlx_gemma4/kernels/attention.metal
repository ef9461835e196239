// Attention of a few queries: scores, online softmax and the weighted sum of values, in
// float32, wherever the strides of keys and values lead. One threadgroup for TILE
// queries that share a head of keys, and for one of the spans into which the keys that
// they see are cut; a simdgroup takes up to 32 keys in a row, reading KEYS at once, and
// a lane PER elements of a head. With PARTS the spans' sums are left to attention_sum.
constexpr uint PER = (D + 31) / 32;
constexpr float LOWEST = -3e38f;
threadgroup float tops[GROUPS * TILE];
threadgroup float totals[GROUPS * TILE];
threadgroup float parts[GROUPS * D];
const uint lane = thread_index_in_simdgroup;
const uint simdgroup = simdgroup_index_in_threadgroup;
const uint element = lane * PER;
const uint heads = uint(queries_shape[1]);
const uint rows = uint(queries_shape[2]);
const uint kv_heads = uint(keys_shape[1]);
const uint sharing = heads / kv_heads;
const uint window = uint(numbers[0]);
const uint batch = threadgroup_position_in_grid.z / kv_heads;
const uint kv_head = threadgroup_position_in_grid.z % kv_heads;
const uint first = threadgroup_position_in_grid.y * TILE;

// Queries are counted row by row: those of a tile see nearly the same keys.
float query[TILE][PER];
float sums[TILE][PER];
float top[TILE];
float total[TILE];
uint ends[TILE];  // behind the last key that each sees
for (uint t = 0; t < TILE; t++) {
  const uint number = min(first + t, rows * sharing - 1);  // some twice, not none
  const uint row = number / sharing;
  const uint head = kv_head * sharing + number % sharing;
  const device T* from = queries + batch * queries_strides[0] +
                         head * queries_strides[1] + row * queries_strides[2];
  for (uint j = 0; j < PER; j++) {
    const bool inside = element + j < D;
    query[t][j] = inside ? float(from[(element + j) * queries_strides[3]]) : 0.0f;
    sums[t][j] = 0.0f;
  }
  top[t] = LOWEST;
  total[t] = 0.0f;
  ends[t] = uint(keys_shape[2]) - rows + row + 1;
}

const uint splits = threadgroups_per_grid.x;
const uint last = ends[TILE - 1];
const uint lowest = ends[0] > window ? ends[0] - window : 0;
const uint span = (last - lowest + splits - 1) / splits;
const uint begin = min(lowest + threadgroup_position_in_grid.x * span, last);
const uint end = min(begin + span, last);
const uint run = min((end - begin + GROUPS - 1) / GROUPS, 32u);
const device T* all_keys =
    keys + batch * keys_strides[0] + kv_head * keys_strides[1] + element;
const device T* all_values =
    values + batch * values_strides[0] + kv_head * values_strides[1] + element;

for (uint start = begin + run * simdgroup; start < end; start += run * GROUPS) {
  const uint count = min(end - start, run);
  float score[TILE];  // of the key `start + lane`
  for (uint t = 0; t < TILE; t++) score[t] = LOWEST;
  for (uint n = 0; n < count; n += KEYS) {
    T key[KEYS][PER];
    for (uint k = 0; k < KEYS; k++) {
      const uint at = start + min(n + k, count - 1);
      const device T* from = all_keys + at * keys_strides[2];
      for (uint j = 0; j < PER; j++) key[k][j] = element + j < D ? from[j] : T(0.0f);
    }
    for (uint t = 0; t < TILE; t++) {
      for (uint k = 0; k < KEYS; k++) {
        float dot = 0.0f;
        for (uint j = 0; j < PER; j++) dot += query[t][j] * float(key[k][j]);
        dot = simd_sum(dot);
        if (lane == n + k) score[t] = dot;
      }
    }
  }
  const uint at = start + lane;
  for (uint t = 0; t < TILE; t++) {
    const bool seen = lane < count && at < ends[t] && at + window >= ends[t];
    const float highest = max(top[t], simd_max(seen ? score[t] : LOWEST));
    const float kept = metal::precise::exp(top[t] - highest);
    score[t] = seen ? metal::precise::exp(score[t] - highest) : 0.0f;
    top[t] = highest;
    total[t] = total[t] * kept + simd_sum(score[t]);
    for (uint j = 0; j < PER; j++) sums[t][j] *= kept;
  }
  for (uint n = 0; n < count; n += KEYS) {
    T value[KEYS][PER];
    for (uint k = 0; k < KEYS; k++) {
      const uint at = start + min(n + k, count - 1);
      const device T* from = all_values + at * values_strides[2];
      for (uint j = 0; j < PER; j++) value[k][j] = element + j < D ? from[j] : T(0.0f);
    }
    for (uint t = 0; t < TILE; t++) {
      for (uint k = 0; k < KEYS; k++) {
        if (n + k >= count) continue;
        const float share = simd_shuffle(score[t], ushort(n + k));
        for (uint j = 0; j < PER; j++) sums[t][j] += share * float(value[k][j]);
      }
    }
  }
}

// The simdgroups' sums become one, each brought to the highest score of all.
for (uint t = 0; t < TILE; t++) {
  if (lane == 0) tops[simdgroup * TILE + t] = top[t];
  if (lane == 0) totals[simdgroup * TILE + t] = total[t];
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (uint t = 0; t < TILE; t++) {
  float highest = LOWEST;
  for (uint g = 0; g < GROUPS; g++) highest = max(highest, tops[g * TILE + t]);
  float sum = 0.0f;
  for (uint g = 0; g < GROUPS; g++)
    sum += totals[g * TILE + t] * metal::precise::exp(tops[g * TILE + t] - highest);
  const float kept = metal::precise::exp(top[t] - highest);
  for (uint j = 0; j < PER; j++)
    if (element + j < D) parts[simdgroup * D + element + j] = sums[t][j] * kept;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const uint number = first + t;
  const uint row = number / sharing;
  const uint head = kv_head * sharing + number % sharing;
  const uint place = (batch * rows + row) * heads + head;
  for (uint d = thread_index_in_threadgroup; d < D; d += 32 * GROUPS) {
    float whole = 0.0f;
    for (uint g = 0; g < GROUPS; g++) whole += parts[g * D + d];
    if (number >= rows * sharing) continue;
#ifdef PARTS
    const uint part = place * splits + threadgroup_position_in_grid.x;
    unfinished[part * D + d] = whole;
    if (d == 0) levels[part * 2] = highest;
    if (d == 0) levels[part * 2 + 1] = sum;
#else
    out[place * D + d] = T(whole / sum);
#endif
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);  // before `parts` is used again
}
