// gelu(gate x) * up x of each token's chosen experts: one simdgroup for ROWS outputs of
// one of them.
const uint lane = thread_index_in_simdgroup;
const uint row0 = thread_position_in_grid.y * ROWS;
const uint slot = threadgroup_position_in_grid.z;  // token * K + place
const uint outputs = uint(weight_shape[1]) / 2;  // of gate, and of up behind it
const Affine<T> all = {weight, scales, biases};
const uint first = chosen[slot] * 2 * outputs;
const Affine<T> maps[2] = {
    expert<T, BITS, GROUP, INPUTS>(all, first),
    expert<T, BITS, GROUP, INPUTS>(all, first + outputs)};
float total[2 * ROWS];
products<T, BITS, GROUP, INPUTS, ROWS, 1, 2>(
    x, slot / K, slot / K + 1, maps, row0, outputs, lane, total);
UNROLLED for (uint r = 0; r < ROWS; r++) {
  if (lane == 0 && row0 + r < outputs)
    out[slot * outputs + row0 + r] = T(gelu(total[r]) * total[ROWS + r]);
}
