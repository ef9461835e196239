// The sum of `value` over a threadgroup of `simdgroups` full simdgroups, for all of its
// threads. `part` holds one number for each simdgroup and is used for one sum only.
inline float threadgroup_sum(
    float value, threadgroup float* part, uint thread_index, uint simdgroups) {
  value = simd_sum(value);
  if (thread_index % 32 == 0) part[thread_index / 32] = value;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return simd_sum(thread_index % 32 < simdgroups ? part[thread_index % 32] : 0.0f);
}

