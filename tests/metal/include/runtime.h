// What a kernel needs of the runtime, and the runtime of a kernel.
#pragma once
#include <cstddef>
#include <cstdint>

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
// What one simdgroup does together: `slots[lane]` is what an active lane brought.
using Collective = void (*)(void** slots, uint32_t active);

[[noreturn]] void fault(const char* format, ...);
unsigned lane();
void collective(void* slot, Collective together, unsigned line, unsigned column);
void simdgroup_wait(unsigned flags, unsigned line, unsigned column);
void threadgroup_wait(unsigned flags, unsigned line, unsigned column);
// The threadgroup's allocation for one declaration, filled with NaN patterns.
void* shared(int declaration, size_t bytes);

// Atomic operations are exempt from race checking while one of these lives.
struct Unchecked {
  Unchecked();
  ~Unchecked();
};

template <class T>
T& threadgroup_array(int declaration) {
  return *(T*)shared(declaration, sizeof(T));
}
}  // namespace metal_cpu

// Generated for each kernel: calls it with its buffers as one thread of the grid.
void run_thread(void** buffers, const metal_cpu::Thread& t);
