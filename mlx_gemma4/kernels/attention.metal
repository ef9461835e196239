// Attention of a few queries: scores, online softmax and the weighted sum of values, in
// float32, wherever the strides of keys and values lead; with RAW the queries' norm and
// rotation before it. One threadgroup for QUERIES that share a head of keys, and for one
// of the spans into which the keys that each sees are cut. Simdgroups of one query have
// keys of their own, those of different queries read the same ones at the same time. A
// lane takes packs of four elements, 128 apart. With PARTS the spans' sums are left to
// attention_sum.
typedef vec<T, 4> Pack;
constexpr uint GROUPS = SIMDGROUPS / QUERIES;
constexpr uint PACKS = (D + 127) / 128;
constexpr float LOWEST = -3e38f;  // finite: a difference of infinities would be NaN
threadgroup float room[SIMDGROUPS * D];  // for queries, then for sums
threadgroup float tops[SIMDGROUPS];
threadgroup float totals[SIMDGROUPS];
const uint lane = thread_index_in_simdgroup;
const uint simdgroup = simdgroup_index_in_threadgroup;
const uint mine = simdgroup % QUERIES;
const uint group = simdgroup / QUERIES;
const uint rows = uint(queries_shape[1]);
const uint heads = uint(queries_shape[2]);
const uint kv_heads = uint(keys_shape[1]);
const uint sharing = heads / kv_heads;
const uint count = rows * sharing;  // queries of a head of keys, row by row
const uint batch = threadgroup_position_in_grid.z / kv_heads;
const uint kv_head = threadgroup_position_in_grid.z % kv_heads;
const uint first = threadgroup_position_in_grid.y * QUERIES;
const uint number = min(first + mine, count - 1);  // some twice, not none
const uint row = number / sharing;
const device T* my_query =
    queries + batch * queries_strides[0] + row * queries_strides[1] +
    (kv_head * sharing + number % sharing) * queries_strides[2];

uint place[PACKS];  // clamped, so that no loop below needs to ask
for (uint j = 0; j < PACKS; j++) place[j] = min(4 * lane + 128 * j, uint(D - 4));
float query[PACKS][4];
#ifdef RAW
const float scale = head_scale<T, D>(my_query, lane, numbers[1]);
const float at = float(position[0] + int(row));
for (uint i = 32 * group + lane; i < D / 2; i += 32 * GROUPS) {
  const float2 pair = turned(float(my_query[i]) * scale * float(weight[i]),
                             float(my_query[i + D / 2]) * scale * float(weight[i + D / 2]),
                             at / periods[i]);
  room[mine * D + i] = pair.x;
  room[mine * D + i + D / 2] = pair.y;
}
threadgroup_barrier(mem_flags::mem_threadgroup);  // queries stored
#endif
for (uint j = 0; j < PACKS; j++) {
  const bool inside = D % 128 == 0 || 4 * lane + 128 * j < D;
  for (uint e = 0; e < 4; e++) {
#ifdef RAW
    const float value = room[mine * D + place[j] + e];
#else
    const float value = float(my_query[place[j] + e]);
#endif
    query[j][e] = inside ? value : 0.0f;
  }
}

const uint last = uint(keys_shape[2]) - rows + row + 1;
const uint window = uint(numbers[0]);
const uint lowest = last > window ? last - window : 0;
const uint splits = threadgroups_per_grid.x;
const uint span = (last - lowest + splits - 1) / splits;
const uint begin = min(lowest + threadgroup_position_in_grid.x * span, last);
const uint share = (min(span, last - begin) + GROUPS - 1) / GROUPS;
const uint end = min(begin + span, last);
const uint stop = min(begin + (group + 1) * share, end);
const uint key_down = uint(keys_strides[2]);
const uint value_down = uint(values_strides[2]);
const device T* my_keys =
    keys + batch * keys_strides[0] + kv_head * keys_strides[1];
const device T* my_values =
    values + batch * values_strides[0] + kv_head * values_strides[1];

float sums[PACKS][4];
for (uint j = 0; j < PACKS; j++)
  for (uint e = 0; e < 4; e++) sums[j][e] = 0.0f;
float top = LOWEST;
float total = 0.0f;
for (uint start = begin + group * share; start < stop; start += 32) {
  const uint some = min(stop - start, 32u);
  float score = LOWEST;  // of the key `start + lane`
  for (uint n = 0; n < some; n += KEYS) {
    Pack key[KEYS][PACKS];
    for (uint k = 0; k < KEYS; k++)
      for (uint j = 0; j < PACKS; j++)
        key[k][j] = *(const device Pack*)(
            my_keys + min(start + n + k, stop - 1) * key_down + place[j]);
    for (uint k = 0; k < KEYS; k++) {
      float dot = 0.0f;
      for (uint j = 0; j < PACKS; j++)
        for (uint e = 0; e < 4; e++) dot += query[j][e] * float(key[k][j][e]);
      dot = simd_sum(dot);
      score = lane == n + k ? dot : score;
    }
  }
  score = lane < some ? score : LOWEST;
  const float highest = max(top, simd_max(score));
  const float kept = metal::precise::exp(top - highest);
  score = metal::precise::exp(score - highest);
  top = highest;
  total = total * kept + simd_sum(score);
  for (uint j = 0; j < PACKS; j++)
    for (uint e = 0; e < 4; e++) sums[j][e] *= kept;
  for (uint n = 0; n < some; n += KEYS) {
    Pack value[KEYS][PACKS];
    for (uint k = 0; k < KEYS; k++)
      for (uint j = 0; j < PACKS; j++)
        value[k][j] = *(const device Pack*)(
            my_values + min(start + n + k, stop - 1) * value_down + place[j]);
    for (uint k = 0; k < KEYS; k++) {
      const float part = simd_shuffle(score, ushort(n + k));  // 0 behind the last key
      for (uint j = 0; j < PACKS; j++)
        for (uint e = 0; e < 4; e++) sums[j][e] += part * float(value[k][j][e]);
    }
  }
}

// The simdgroups' sums become one, each brought to the highest score of all.
if (lane == 0) tops[simdgroup] = top;
threadgroup_barrier(mem_flags::mem_threadgroup);  // tops stored, queries read
float highest = LOWEST;
for (uint g = 0; g < GROUPS; g++) highest = max(highest, tops[g * QUERIES + mine]);
const float kept = metal::precise::exp(top - highest);
if (lane == 0) totals[simdgroup] = total * kept;
for (uint j = 0; j < PACKS; j++)
  for (uint e = 0; e < 4; e++)
    if (D % 128 == 0 || 4 * lane + 128 * j < D)
      room[simdgroup * D + place[j] + e] = sums[j][e] * kept;
threadgroup_barrier(mem_flags::mem_threadgroup);  // sums stored
const uint taken = min(count - first, uint(QUERIES));
const uint before = batch * rows * heads + kv_head * sharing;
for (uint i = thread_index_in_threadgroup; i < taken * D; i += 32 * SIMDGROUPS) {
  const uint q = i / D;
  const uint d = i % D;
  const uint to = before + (first + q) / sharing * heads + (first + q) % sharing;
  float whole = 0.0f;
  float shares = 0.0f;
  for (uint g = 0; g < GROUPS; g++) {
    whole += room[(g * QUERIES + q) * D + d];
    shares += totals[g * QUERIES + q];
  }
#ifdef PARTS
  unfinished[(to * splits + threadgroup_position_in_grid.x) * D + d] = whole;
#else
  out[to * D + d] = T(whole / shares);
#endif
}
#ifdef PARTS
if (lane == 0 && group == 0 && mine < taken) {
  const uint to = before + row * heads + number % sharing;
  const uint part = to * splits + threadgroup_position_in_grid.x;
  float shares = 0.0f;
  for (uint g = 0; g < GROUPS; g++) shares += totals[g * QUERIES + mine];
  levels[part * 2] = highest;
  levels[part * 2 + 1] = shares;
}
#endif
