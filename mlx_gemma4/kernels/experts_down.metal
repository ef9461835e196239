// The weighted sum of each token's chosen experts' down maps: one simdgroup for ROWS
// rows of one token and all of its experts. Weights as in experts_gate_up.
constexpr uint VALUES = 32 / BITS;
const uint lane = thread_index_in_simdgroup;
const uint row0 = thread_position_in_grid.x / 32 * ROWS;
const uint token = threadgroup_position_in_grid.y;
const uint inputs = uint(x_shape[1]);
const uint words = inputs / VALUES;
const uint groups = inputs / GROUP;
const uint outputs = uint(weight_shape[1]);

float total[ROWS];
for (uint r = 0; r < ROWS; r++) total[r] = 0.0f;
for (uint slot = token * K; slot < token * K + K; slot++) {
  const float share = float(shares[slot]);
  const uint first = chosen[slot] * outputs;
  for (uint word = lane; word < words; word += 32) {
    float values[VALUES];
    float sum = 0.0f;
    for (uint i = 0; i < VALUES; i++) {
      values[i] = share * float(x[slot * inputs + word * VALUES + i]);
      sum += values[i];
    }
    const uint group = word * VALUES / GROUP;
    for (uint r = 0; r < ROWS; r++) {
      const uint row = first + min(row0 + r, outputs - 1);  // some twice, not none
      const uint packed = weight[row * words + word];
      float dot = 0.0f;
      for (uint i = 0; i < VALUES; i++)
        dot += values[i] * float((packed >> (BITS * i)) & ((1u << BITS) - 1));
      const uint at = row * groups + group;
      total[r] += dot * float(scales[at]) + sum * float(biases[at]);
    }
  }
}
for (uint r = 0; r < ROWS; r++) {
  const float sum = simd_sum(total[r]);
  if (lane == 0 && row0 + r < outputs) out[token * outputs + row0 + r] = T(sum);
}
