// gelu(gate x) * up x: one simdgroup for ROWS outputs of both maps and TOKENS rows of x.
const uint lane = thread_index_in_simdgroup;
const uint token0 = threadgroup_position_in_grid.x * TOKENS;
const uint row0 = thread_position_in_grid.y * ROWS;
const uint tokens = TOKENS == 1 ? 1 : uint(x_shape[0]);
const uint outputs = uint(weight1_shape[0]);
const Affine<T> maps[2] = {{weight1, scales1, biases1}, {weight2, scales2, biases2}};
constexpr uint COUNT = ROWS * TOKENS;
float total[2 * COUNT];
products<T, BITS, GROUP, INPUTS, ROWS, TOKENS, 2>(
    x, token0, tokens, maps, row0, outputs, lane, total);
UNROLLED for (uint i = 0; i < COUNT; i++) {
  const uint row = row0 + i / TOKENS, token = token0 + i % TOKENS;
  if (lane == 0 && row < outputs && token < tokens)
    out1[token * outputs + row] = T(gelu(total[i]) * total[COUNT + i]);
}
