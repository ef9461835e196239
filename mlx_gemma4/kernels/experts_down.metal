// The weighted sum of each token's chosen experts' down maps: one simdgroup for ROWS
// outputs of one token. The pieces of all of its experts form one line, so that few lanes
// idle.
constexpr uint SIZE = 64 / BITS;
constexpr uint PIECES = INPUTS / SIZE;
const uint lane = thread_index_in_simdgroup;
const uint row0 = thread_position_in_grid.y * ROWS;
const uint token = threadgroup_position_in_grid.z;
const uint outputs = uint(weight_shape[1]);
const Affine<T> all = {weight, scales, biases};

float total[ROWS];
UNROLLED for (uint r = 0; r < ROWS; r++) total[r] = 0.0f;
for (uint i = lane; i < K * PIECES; i += 32) {
  const uint slot = token * K + i / PIECES;
  const float share = float(shares[slot]);
  const Affine<T> map = expert<T, BITS, GROUP, INPUTS>(all, chosen[slot] * outputs);
  float values[SIZE];
  float sum;
  take<T, SIZE, INPUTS, 1>(x, slot, slot + 1, i % PIECES, values, &sum);
  UNROLLED for (uint r = 0; r < ROWS; r++) {
    const uint row = min(row0 + r, outputs - 1);  // some twice rather than none
    float part = 0.0f;
    add_piece<T, BITS, GROUP, INPUTS, 1>(map, row, i % PIECES, values, &sum, &part);
    total[r] += share * part;
  }
}
UNROLLED for (uint r = 0; r < ROWS; r++) {
  const float sum = simd_sum(total[r]);
  if (lane == 0 && row0 + r < outputs) out[token * outputs + row0 + r] = T(sum);
}
