// x times each of MAPS maps: one simdgroup for ROWS outputs of one of them and TOKENS
// rows of x.
const uint lane = thread_index_in_simdgroup;
const uint token0 = threadgroup_position_in_grid.x * TOKENS;
const uint tokens = TOKENS == 1 ? 1 : uint(x_shape[0]);
uint block = thread_position_in_grid.y;
uint outputs = uint(weight1_shape[0]);
Affine<T> map = {weight1, scales1, biases1};
device T* out = out1;
if (block >= (outputs + ROWS - 1) / ROWS) {
  block -= (outputs + ROWS - 1) / ROWS;
  outputs = uint(weight2_shape[0]);
  map = {weight2, scales2, biases2};
  out = out2;
}
#if MAPS == 3
if (block >= (outputs + ROWS - 1) / ROWS) {
  block -= (outputs + ROWS - 1) / ROWS;
  outputs = uint(weight3_shape[0]);
  map = {weight3, scales3, biases3};
  out = out3;
}
#endif
float total[ROWS * TOKENS];
products<T, BITS, GROUP, INPUTS, ROWS, TOKENS, 1>(
    x, token0, tokens, &map, block * ROWS, outputs, lane, total);
UNROLLED for (uint i = 0; i < ROWS * TOKENS; i++) {
  const uint row = block * ROWS + i / TOKENS, token = token0 + i % TOKENS;
  if (lane == 0 && row < outputs && token < tokens)
    out[token * outputs + row] = T(total[i]);
}
