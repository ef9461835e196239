// gelu(x times a map) * factor: one simdgroup for ROWS outputs of TOKENS rows.
const uint lane = thread_index_in_simdgroup;
const uint token0 = threadgroup_position_in_grid.x * TOKENS;
const uint row0 = thread_position_in_grid.y * ROWS;
const uint tokens = TOKENS == 1 ? 1 : uint(x_shape[0]);
const uint outputs = uint(weight1_shape[0]);
const Affine<T> maps[1] = {{weight1, scales1, biases1}};
float total[ROWS * TOKENS];
products<T, BITS, GROUP, INPUTS, ROWS, TOKENS, 1>(
    x, token0, tokens, maps, row0, outputs, lane, total);
UNROLLED for (uint i = 0; i < ROWS * TOKENS; i++) {
  const uint row = row0 + i / TOKENS, token = token0 + i % TOKENS;
  const uint at = token * outputs + row;
  if (lane == 0 && row < outputs && token < tokens)
    out1[at] = T(gelu(total[i]) * float(factor[at]));
}
