// Norm and rotation of heads: of queries with QUERIES; behind them with KEYS those of
// keys, and of values the norm alone. One threadgroup for each head of a row, and a
// thread for each pair of its elements; every simdgroup takes the whole head's norm.
const uint lane = thread_index_in_simdgroup;
const uint pair = thread_position_in_threadgroup.x;
uint head = threadgroup_position_in_grid.y;
const uint number = threadgroup_position_in_grid.z;  // batch * rows + row
bool turns = true;
#ifdef QUERIES
const uint before = uint(queries_shape[2]);
const uint rows = uint(queries_shape[1]);
const device T* from = queries + (number * before + head) * D;
const device T* weight = q_weight;
device T* to = rotated + ((number / rows * before + head) * rows + number % rows) * D;
#else
const uint before = 0;
const uint rows = uint(keys_shape[1]);
const device T* from = keys;
const device T* weight = k_weight;
device T* to = kv;
#endif
#ifdef KEYS
if (head >= before) {
  head -= before;
  const uint heads = uint(keys_shape[2]);
  turns = head < heads;
  from = (turns ? keys : values) + (number * heads + head % heads) * D;
  weight = k_weight;
  to = kv + ((number / rows * 2 * heads + head) * rows + number % rows) * D;
}
#endif

const float scale = head_scale<T, D>(from, lane, numbers[0]);
if (D % 64 == 0 || pair < D / 2) {
  const float first = float(from[pair]) * scale;
  const float second = float(from[pair + D / 2]) * scale;
  float2 made = float2(first, second);
  if (turns) {
    const float angle = float(position[0] + int(number % rows)) / periods[pair];
    made = turned(first * float(weight[pair]), second * float(weight[pair + D / 2]), angle);
  }
  to[pair] = T(made.x);
  to[pair + D / 2] = T(made.y);
}
