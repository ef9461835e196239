// Metal Shading Language as CUDA C++20, for a kernel's own text in namespace metal.
//
// Compiled by NVRTC without any header of the CUDA toolkit, every function for the GPU.
// Types, functions and matrices are those the CPU runs; half and bfloat convert with
// the GPU's instructions. Not modelled: as in metal_cpu.h, and address spaces.
#pragma once
#define METAL_CUDA

#include "metal_types.h"

#include "metal_math.h"

#include "metal_simd.h"

#include "thread.h"

namespace metal_cuda {
template <int N>
struct Buffers {
  void* at[N];
};

inline unsigned part(unsigned grid, unsigned block, unsigned size) {
  return metal::min(size, grid - block * size);
}

// The grid counts threads, as in Metal. The last group along an axis may be smaller.
inline metal_cpu::Thread this_thread(unsigned x, unsigned y, unsigned z) {
  metal_cpu::Thread t;
  const metal_cpu::Position group = {blockIdx.x, blockIdx.y, blockIdx.z};
  const metal_cpu::Position place = {threadIdx.x, threadIdx.y, threadIdx.z};
  const metal_cpu::Position size = {part(x, group.x, blockDim.x),
                                    part(y, group.y, blockDim.y),
                                    part(z, group.z, blockDim.z)};
  t.thread_position_in_grid = {group.x * blockDim.x + place.x,
                               group.y * blockDim.y + place.y,
                               group.z * blockDim.z + place.z};
  t.thread_position_in_threadgroup = place;
  t.threadgroup_position_in_grid = group;
  t.threads_per_threadgroup = size;
  t.threads_per_grid = {x, y, z};
  t.threadgroups_per_grid = {gridDim.x, gridDim.y, gridDim.z};
  const unsigned index = place.x + size.x * (place.y + size.y * place.z);
  t.thread_index_in_threadgroup = index;
  t.thread_index_in_simdgroup = index % 32;
  t.simdgroup_index_in_threadgroup = index / 32;
  t.simdgroups_per_threadgroup = (size.x * size.y * size.z + 31) / 32;
  return t;
}

inline bool inside(const metal_cpu::Thread& t) {
  const metal_cpu::Position &at = t.thread_position_in_grid, &grid = t.threads_per_grid;
  return at.x < grid.x && at.y < grid.y && at.z < grid.z;
}
}  // namespace metal_cuda

// Address spaces last, as in metal_cpu.h. The translation has turned threadgroup arrays
// into shared ones already.
#define device
#define constant
#define thread
#define threadgroup
