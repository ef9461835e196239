// One stack for each thread of a threadgroup, and the switch between them.
//
// Written for Linux on x86-64 (System V calling convention).
#pragma once
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "runtime.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace metal_cpu {
extern "C" void switch_stacks(void** save, void* load);
asm(R"(.text
.globl switch_stacks
switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
constexpr int SAVED = 6;
constexpr size_t STACK = 1 << 18;

enum State { READY, AT_SIMD, AT_BARRIER, DONE };

struct Fiber {
  void* top = nullptr;
  char* stack = nullptr;
  void* fake = nullptr;  // AddressSanitizer's
  State state = DONE;
  Thread thread;
  // What it waits for.
  void* slot;
  Collective together;
  unsigned flags;
  uint64_t site;

  void start(void (*entry)()) {
    if (!stack) {
      int anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
      stack = (char*)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, anonymous, -1, 0);
      if (stack == MAP_FAILED) fault("no memory for stacks");
      mprotect(stack, 4096, PROT_NONE);
    }
    void** sp = (void**)(stack + STACK - 64);
    *--sp = nullptr;
    *--sp = (void*)entry;
    for (int i = 0; i < SAVED; i++) *--sp = nullptr;
    top = sp;
    fake = nullptr;
    state = READY;
  }
};

// The scheduler's own stack, and the switches from and to it.
struct MainStack {
  void* top = nullptr;
  void* fake = nullptr;
  const void* bottom = nullptr;
  size_t size = 0;

  void run(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&fake, fiber.stack, STACK);
#endif
    switch_stacks(&top, fiber.top);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  }
  void entered() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
#endif
  }
  void leave(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
    void** keep = fiber.state == DONE ? nullptr : &fiber.fake;
    __sanitizer_start_switch_fiber(keep, bottom, size);
#endif
    switch_stacks(&fiber.top, top);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fiber.fake, &bottom, &size);
#endif
  }
};
}  // namespace metal_cpu
