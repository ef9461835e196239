// GeGLU of the gate and up rows of each token's chosen experts: one simdgroup for ROWS
// rows of both, on affine weights of BITS bits, GROUP to a scale and a bias. A lane
// takes every 32nd word; a word's weights lie in one group.
constexpr uint VALUES = 32 / BITS;
const uint lane = thread_index_in_simdgroup;
const uint row0 = thread_position_in_grid.x / 32 * ROWS;
const uint slot = threadgroup_position_in_grid.y;  // token * K + place
const uint inputs = uint(x_shape[1]);
const uint words = inputs / VALUES;
const uint groups = inputs / GROUP;
const uint outputs = uint(weight_shape[1]) / 2;  // of gate, and of up behind it
const uint token = slot / K;
const uint first = chosen[slot] * 2 * outputs;

float gate[ROWS];
float up[ROWS];
uint rows[ROWS];
for (uint r = 0; r < ROWS; r++) {
  gate[r] = 0.0f;
  up[r] = 0.0f;
  rows[r] = first + min(row0 + r, outputs - 1);  // some twice rather than none
}
for (uint word = lane; word < words; word += 32) {
  float values[VALUES];
  float sum = 0.0f;
  for (uint i = 0; i < VALUES; i++) {
    values[i] = float(x[token * inputs + word * VALUES + i]);
    sum += values[i];
  }
  const uint group = word * VALUES / GROUP;
  for (uint r = 0; r < ROWS; r++) {
    const uint up_row = rows[r] + outputs;
    const uint g = weight[rows[r] * words + word];
    const uint u = weight[up_row * words + word];
    float g_dot = 0.0f;
    float u_dot = 0.0f;
    for (uint i = 0; i < VALUES; i++) {
      g_dot += values[i] * float((g >> (BITS * i)) & ((1u << BITS) - 1));
      u_dot += values[i] * float((u >> (BITS * i)) & ((1u << BITS) - 1));
    }
    const uint g_at = rows[r] * groups + group;
    const uint u_at = up_row * groups + group;
    gate[r] += g_dot * float(scales[g_at]) + sum * float(biases[g_at]);
    up[r] += u_dot * float(scales[u_at]) + sum * float(biases[u_at]);
  }
}
for (uint r = 0; r < ROWS; r++) {
  const float g = simd_sum(gate[r]);
  const float u = simd_sum(up[r]);
  if (lane == 0 && row0 + r < outputs) {
    // gelu by tanh is g sigmoid(2 sqrt(2 / pi) (g + 0.044715 g^3)).
    const float shape = 1.5957691216057308f * (g + 0.044715f * g * g * g);
    const float active = g / (1.0f + metal::precise::exp(-shape));
    out[slot * outputs + row0 + r] = T(active * u);
  }
}
