// gelu(weight x) * factor for a vector x and a few hundred rows of affine weights of
// BITS bits, GROUP to a scale and a bias: one simdgroup for ROWS rows. A lane takes every
// 32nd word; a word's weights lie in one group.
constexpr uint VALUES = 32 / BITS;
const uint lane = thread_index_in_simdgroup;
const uint row0 = thread_position_in_grid.x / 32 * ROWS;
const uint token = threadgroup_position_in_grid.y;
const uint inputs = uint(x_shape[1]);
const uint words = inputs / VALUES;
const uint groups = inputs / GROUP;
const uint outputs = uint(weight_shape[0]);

float total[ROWS];
for (uint r = 0; r < ROWS; r++) total[r] = 0.0f;
for (uint word = lane; word < words; word += 32) {
  float values[VALUES];
  float sum = 0.0f;
  for (uint i = 0; i < VALUES; i++) {
    values[i] = float(x[token * inputs + word * VALUES + i]);
    sum += values[i];
  }
  const uint group = word * VALUES / GROUP;
  for (uint r = 0; r < ROWS; r++) {
    const uint row = min(row0 + r, outputs - 1);  // some twice rather than none
    const uint packed = weight[row * words + word];
    float dot = 0.0f;
    for (uint i = 0; i < VALUES; i++)
      dot += values[i] * float((packed >> (BITS * i)) & ((1u << BITS) - 1));
    const uint at = row * groups + group;
    total[r] += dot * float(scales[at]) + sum * float(biases[at]);
  }
}
for (uint r = 0; r < ROWS; r++) {
  const float g = simd_sum(total[r]);
  if (lane == 0 && row0 + r < outputs) {
    // gelu by tanh is g sigmoid(2 sqrt(2 / pi) (g + 0.044715 g^3)).
    const float shape = 1.5957691216057308f * (g + 0.044715f * g * g * g);
    const float active = g / (1.0f + metal::precise::exp(-shape));
    const uint at = token * outputs + row0 + r;
    out[at] = T(active * float(factor[at]));
  }
}
