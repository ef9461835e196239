// What a kernel needs of the runtime, and the runtime of a kernel.
#pragma once
#include <cstddef>
#include <cstdint>

#include "thread.h"

namespace metal_cpu {
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
