// What metal_cuda.h needs of CUDA, on the fibers of a CPU, so that it can be tried there.
#pragma once
#include "runtime.h"

#include "thread.h"

#define __global__
#define __launch_bounds__(threads)
inline metal_cpu::Position threadIdx, blockIdx, blockDim, gridDim;

namespace metal_cpu {
struct Exchange {
  unsigned value, from, result;
};
inline void exchange(void** slots, uint32_t active) {
  if (active != ~0u) fault("a warp with absent lanes");
  Exchange** lanes = (Exchange**)slots;
  for (int i = 0; i < 32; i++) lanes[i]->result = lanes[lanes[i]->from % 32]->value;
}
}  // namespace metal_cpu

inline unsigned __shfl_sync(unsigned, unsigned value, unsigned from) {
  metal_cpu::Exchange mine{value, from, 0};
  metal_cpu::collective(&mine, metal_cpu::exchange, __LINE__, 0);
  return mine.result;
}
inline bool __any_sync(unsigned, bool value) {
  bool any = false;
  for (unsigned lane = 0; lane < 32; lane++) any |= __shfl_sync(~0u, value, lane) != 0;
  return any;
}
inline bool __all_sync(unsigned, bool value) { return !__any_sync(~0u, !value); }
inline void __syncwarp() { metal_cpu::simdgroup_wait(3, __LINE__, 0); }
inline void __syncthreads() { metal_cpu::threadgroup_wait(3, __LINE__, 0); }
