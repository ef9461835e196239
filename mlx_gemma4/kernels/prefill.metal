// Attention of ROWS queries of one head to a window of keys, float32 sums and softmax.
//
// In steps of 8 keys for each simdgroup: each scores its 8 keys for all rows, then takes
// the softmax of its own rows as far as it goes, then adds to its own part of the head
// dimension for all rows. So every key and value is read once, straight from the cache,
// and no key before the first row's window or behind the last row.
constexpr int TILES = ROWS / 8;             // of 8 rows
constexpr int STEP = 8 * SIMDGROUPS;        // keys
constexpr int PARTS = D / STEP;             // of 8 dimensions, for one simdgroup
constexpr int OWN = ROWS / SIMDGROUPS;      // rows, for one simdgroup
constexpr int LANES = (STEP + 31) / 32;     // scores of a row, for one lane
constexpr int WIDTH = D + 16 / sizeof(T);   // other banks for the next row
constexpr int SCORES = STEP + 4;
#define UNROLLED(i, count) \
  _Pragma("clang loop unroll(full)") for (int i = 0; i < count; i++)
threadgroup T rows[ROWS * WIDTH];
threadgroup float scores[ROWS * SCORES];
threadgroup float factors[ROWS];

const int lane = int(thread_index_in_simdgroup);
const int sg = int(simdgroup_index_in_threadgroup);
// Where a lane's two elements of an 8x8 matrix lie: here and in the next column.
const int row = (lane / 4 & 4) + lane / 2 % 4;
const int column = (lane / 4 & 2) * 2 + lane % 2 * 2;

const int heads = queries_shape[1];
const int length = queries_shape[2];
const int head = int(threadgroup_position_in_grid.x);
const int start = int(threadgroup_position_in_grid.y) * ROWS;
const int batch = int(threadgroup_position_in_grid.z);
const int kv_head = head / (heads / keys_shape[1]);
const int position = keys_shape[2] - length + start;  // of the first row
const int first = max(0, position - window[0] + 1);
const int end = min(keys_shape[2], position + ROWS);
const long key_down = keys_strides[2];
const long key_across = keys_strides[3];
const long value_down = values_strides[2];
const long value_across = values_strides[3];
const device T* my_queries = queries + batch * queries_strides[0] +
                             head * queries_strides[1] + start * queries_strides[2];
const device T* my_keys = keys + batch * keys_strides[0] + kv_head * keys_strides[1];
const device T* my_values =
    values + batch * values_strides[0] + kv_head * values_strides[1];

for (int i = int(thread_index_in_threadgroup); i < ROWS * D; i += 32 * SIMDGROUPS) {
  const int r = i / D;
  const int d = i % D;
  rows[r * WIDTH + d] = start + r < length
      ? my_queries[r * queries_strides[2] + d * queries_strides[3]] : T(0.0f);
}
float most[OWN];
float sum[OWN];
UNROLLED(j, OWN) {
  most[j] = -3e38f;  // finite: a difference of infinities would be NaN
  sum[j] = 0.0f;
}
simdgroup_matrix<float, 8, 8> total[TILES][PARTS];
UNROLLED(t, TILES)
  UNROLLED(p, PARTS)
    total[t][p] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);

for (int base = first; base < end; base += STEP) {
  threadgroup_barrier(mem_flags::mem_threadgroup);  // rows stored, last step done
  const int mine = base + 8 * sg;
  if (mine < end) {
    const device T* left = my_keys + row * key_across;
    const device T* right = left + min(mine + column + 1, end - 1) * key_down;
    left += min(mine + column, end - 1) * key_down;
    simdgroup_matrix<float, 8, 8> score[TILES];
    UNROLLED(t, TILES)
      score[t] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    for (int d = 0; d < D; d += 8) {
      simdgroup_matrix<T, 8, 8> key;  // transposed
      key.thread_elements()[0] = left[d * key_across];
      key.thread_elements()[1] = right[d * key_across];
      UNROLLED(t, TILES) {
        simdgroup_matrix<T, 8, 8> query;
        simdgroup_load(query, rows + 8 * t * WIDTH + d, WIDTH);
        simdgroup_multiply_accumulate(score[t], query, key, score[t]);
      }
    }
    UNROLLED(t, TILES)
      simdgroup_store(score[t], scores + 8 * t * SCORES + 8 * sg, SCORES);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);  // scores stored
  UNROLLED(j, OWN) {
    const int r = sg + j * SIMDGROUPS;
    const int newest = min(position + r, end - 1);
    const int oldest = position + r - window[0] + 1;
    threadgroup float* line = scores + r * SCORES;
    float seen[LANES];
    float best = most[j];
    UNROLLED(i, LANES) {
      const int c = lane + 32 * i;
      const bool visible = c < STEP && base + c >= oldest && base + c <= newest;
      seen[i] = visible ? line[c] : -INFINITY;
      best = max(best, seen[i]);
    }
    best = simd_max(best);
    float step_sum = 0.0f;
    UNROLLED(i, LANES) {
      const float share = metal::precise::exp(seen[i] - best);
      if (lane + 32 * i < STEP) line[lane + 32 * i] = share;
      step_sum += share;
    }
    const float factor = metal::precise::exp(most[j] - best);
    sum[j] = sum[j] * factor + simd_sum(step_sum);
    most[j] = best;
    if (lane == 0) factors[r] = factor;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);  // shares and factors stored
  UNROLLED(t, TILES) {
    const float factor = factors[8 * t + row];
    UNROLLED(p, PARTS) {
      total[t][p].thread_elements()[0] *= factor;
      total[t][p].thread_elements()[1] *= factor;
    }
  }
  for (int j = 0; j < STEP && base + j < end; j += 8) {
    const device T* from = my_values + min(base + j + row, end - 1) * value_down +
                           (8 * PARTS * sg + column) * value_across;
    simdgroup_matrix<float, 8, 8> shares[TILES];
    UNROLLED(t, TILES)
      simdgroup_load(shares[t], scores + 8 * t * SCORES + j, SCORES);
    UNROLLED(p, PARTS) {
      simdgroup_matrix<T, 8, 8> value;
      value.thread_elements()[0] = from[8 * p * value_across];
      value.thread_elements()[1] = from[(8 * p + 1) * value_across];
      UNROLLED(t, TILES)
        simdgroup_multiply_accumulate(total[t][p], shares[t], value, total[t][p]);
    }
  }
}

threadgroup_barrier(mem_flags::mem_threadgroup);  // last factors read
UNROLLED(j, OWN)
  if (lane == 0) factors[sg + j * SIMDGROUPS] = 1.0f / sum[j];
threadgroup_barrier(mem_flags::mem_threadgroup);  // factors stored
UNROLLED(t, TILES) {
  const int r = 8 * t + row;
  if (start + r >= length) continue;
  const long line = (long(batch) * length + start + r) * heads + head;
  device T* to = out + line * D + 8 * PARTS * sg + column;
  UNROLLED(p, PARTS) {
    to[8 * p] = T(total[t][p].thread_elements()[0] * factors[r]);
    to[8 * p + 1] = T(total[t][p].thread_elements()[1] * factors[r]);
  }
}
