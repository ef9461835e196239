// Where a thread is: what Metal's attributes say.
#pragma once

namespace metal_cpu {
struct Position {
  unsigned x, y, z;
};
struct Thread {
  Position thread_position_in_grid, thread_position_in_threadgroup;
  Position threadgroup_position_in_grid, threads_per_threadgroup, threads_per_grid;
  Position threadgroups_per_grid;
  unsigned thread_index_in_threadgroup, thread_index_in_simdgroup;
  unsigned simdgroup_index_in_threadgroup, simdgroups_per_threadgroup;
};
}  // namespace metal_cpu
