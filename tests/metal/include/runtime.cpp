// Runs the threads of a kernel: reads a job, calls every threadgroup, writes it back.
#include "runtime.h"

#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

#include "fibers.h"
#if defined(METAL_CPU_RACES)
#include "races.h"
DEFINE_RACE_HOOKS
#endif

namespace metal_cpu {
constexpr int SHARED_LIMIT = 32768, GROUP_LIMIT = 1024;
enum Schedule { FORWARD, REVERSE, RANDOM };

struct Allocation {
  void* memory;
  size_t bytes;
};

// The threadgroup that is running.
std::vector<Fiber> fibers;
std::vector<std::pair<int, Allocation>> allocations;
MainStack main_stack;
int current;
void** buffers;
std::mt19937 draw;
Schedule schedule;
#if defined(METAL_CPU_RACES)
Races races;
Unchecked::Unchecked() { races.unchecked++; }
Unchecked::~Unchecked() { races.unchecked--; }
#else
Unchecked::Unchecked() {}
Unchecked::~Unchecked() {}
#endif

void fault(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::fputs("fault: ", stderr);
  std::vfprintf(stderr, format, arguments);
  std::fputs("\n", stderr);
  std::fflush(stderr);
  _exit(77);
}

unsigned lane() { return fibers[current].thread.thread_index_in_simdgroup; }

static uint64_t site(unsigned line, unsigned column) {
  return uint64_t(line) << 32 | column;
}
static unsigned line_of(uint64_t site) { return unsigned(site >> 32); }

static void wait(State state, unsigned line, unsigned column) {
  Fiber& f = fibers[current];
  f.state = state;
  f.site = site(line, column);
  main_stack.leave(f);
}

void collective(void* slot, Collective together, unsigned line, unsigned column) {
  Fiber& f = fibers[current];
  f.slot = slot;
  f.together = together;
  f.flags = 0;
  wait(AT_SIMD, line, column);
}

void simdgroup_wait(unsigned flags, unsigned line, unsigned column) {
  Fiber& f = fibers[current];
  f.together = [](void**, uint32_t) {};
  f.flags = flags;
  wait(AT_SIMD, line, column);
}

void threadgroup_wait(unsigned flags, unsigned line, unsigned column) {
  fibers[current].flags = flags;
  wait(AT_BARRIER, line, column);
}

void* shared(int declaration, size_t bytes) {
  for (auto& [number, allocation] : allocations)
    if (number == declaration) return allocation.memory;
  size_t total = bytes;
  for (auto& [number, allocation] : allocations) total += allocation.bytes;
  if (total > SHARED_LIMIT)
    fault("%zu bytes of threadgroup memory, more than %d", total, SHARED_LIMIT);
  void* memory;
  if (posix_memalign(&memory, 64, bytes)) fault("no memory");
  std::memset(memory, 0xff, bytes);
  allocations.push_back({declaration, {memory, bytes}});
#if defined(METAL_CPU_RACES)
  races.watch(memory, bytes, 2, declaration, false);
#endif
  return memory;
}

static void free_shared() {
  for (auto& [number, allocation] : allocations) {
#if defined(METAL_CPU_RACES)
    races.forget(allocation.memory);
#endif
    std::free(allocation.memory);
  }
  allocations.clear();
}

#if defined(METAL_CPU_RACES)
static unsigned group_epochs[4], simd_epochs[32][4];
static long group_number = -1;

static void passed(unsigned flags, int simdgroup) {
  for (int flag : {1, 2})
    if (flags & flag) simd_epochs[simdgroup][flag]++;
}
static void now_running(const Thread& t) {
  unsigned thread = t.thread_index_in_threadgroup, simdgroup = thread / 32;
  for (int flag : {1, 2})
    races.now[flag] = {group_number, thread, group_epochs[flag],
                       simd_epochs[simdgroup][flag]};
}
#endif

static void body() {
  main_stack.entered();
  run_thread(buffers, fibers[current].thread);
  fibers[current].state = DONE;
  main_stack.leave(fibers[current]);
  std::abort();
}

static void resume(int i) {
  current = i;
#if defined(METAL_CPU_RACES)
  now_running(fibers[i].thread);
#endif
  main_stack.run(fibers[i]);
}

static std::vector<int> ordered(int first, int end) {
  std::vector<int> order(end - first);
  std::iota(order.begin(), order.end(), first);
  if (schedule == REVERSE) std::reverse(order.begin(), order.end());
  if (schedule == RANDOM) std::shuffle(order.begin(), order.end(), draw);
  return order;
}

// Runs the lanes until each waits or has returned; true if they then did something
// together and can go on.
static bool advance_simdgroup(int first, int end) {
  for (int i : ordered(first, end))
    if (fibers[i].state == READY) resume(i);
  uint32_t active = 0, alive = 0;
  void* slots[32] = {};
  const Fiber* leader = nullptr;
  for (int i = first; i < end; i++) {
    Fiber& f = fibers[i];
    if (f.state != DONE) alive |= 1u << (i - first);
    if (f.state != AT_SIMD) continue;
    if (!leader) leader = &f;
    if (f.site != leader->site || f.together != leader->together) continue;
    active |= 1u << (i - first);
    slots[i - first] = f.slot;
  }
  if (!active) return false;
  if (active != alive)
    fault("a simd operation in divergent control flow, line %u, lanes %08x of %08x",
          line_of(leader->site), active, alive);
  leader->together(slots, active);
#if defined(METAL_CPU_RACES)
  passed(leader->flags, first / 32);
#endif
  for (int i = first; i < end; i++)
    if (active >> (i - first) & 1) fibers[i].state = READY;
  return true;
}

// True if all threads reached one barrier, false if all have returned.
static bool pass_barrier(int threads) {
  const Fiber* leader = nullptr;
  int done = 0;
  for (int i = 0; i < threads; i++) {
    Fiber& f = fibers[i];
    if (f.state == DONE) {
      done++;
    } else if (!leader) {
      leader = &f;
    } else if (f.site != leader->site) {
      fault("threads wait at different barriers, lines %u and %u",
            line_of(leader->site), line_of(f.site));
    }
  }
  if (!leader) return false;
  if (done)
    fault("the barrier in line %u is not reached by %d of %d threads, which returned",
          line_of(leader->site), done, threads);
#if defined(METAL_CPU_RACES)
  for (int g = 0; g < (threads + 31) / 32; g++) passed(leader->flags, g);
  for (int flag : {1, 2}) group_epochs[flag] += (leader->flags & flag) != 0;
#endif
  for (int i = 0; i < threads; i++) fibers[i].state = READY;
  return true;
}

static void run_group(int threads) {
  int simdgroups = (threads + 31) / 32;
  do {
    for (int g : ordered(0, simdgroups))
      while (advance_simdgroup(g * 32, std::min(threads, g * 32 + 32)));
  } while (pass_barrier(threads));
}

struct Sizes {
  unsigned grid[3], group[3];
};

static Position at(const unsigned* v) { return {v[0], v[1], v[2]}; }
static int start_threads(const Sizes& s, const unsigned* groups, long number) {
  unsigned g[3] = {unsigned(number % groups[0]), unsigned(number / groups[0] % groups[1]),
                   unsigned(number / groups[0] / groups[1])};
  unsigned size[3];  // of the last group in a row, less than the others'
  for (int i = 0; i < 3; i++)
    size[i] = std::min(s.group[i], s.grid[i] - g[i] * s.group[i]);
  int threads = int(size[0] * size[1] * size[2]);
  for (int i = 0; i < threads; i++) {
    unsigned p[3] = {i % size[0], i / size[0] % size[1], i / size[0] / size[1]};
    unsigned in_grid[3];
    for (int k = 0; k < 3; k++) in_grid[k] = g[k] * s.group[k] + p[k];
    fibers[i].thread = {at(in_grid), at(p), at(g), at(size), at(s.grid), at(groups),
                        unsigned(i), unsigned(i % 32), unsigned(i / 32),
                        unsigned((threads + 31) / 32)};
    fibers[i].start(body);
  }
  return threads;
}

static void run_grid(Sizes s) {
  unsigned groups[3];
  for (int i = 0; i < 3; i++) {
    s.group[i] = std::min(s.group[i], s.grid[i]);
    groups[i] = (s.grid[i] + s.group[i] - 1) / s.group[i];
  }
  unsigned most = s.group[0] * s.group[1] * s.group[2];
  if (most > GROUP_LIMIT) fault("%u threads in a group, more than %d", most, GROUP_LIMIT);
  fibers.resize(most);
  for (int number : ordered(0, int(groups[0] * groups[1] * groups[2]))) {
#if defined(METAL_CPU_RACES)
    group_number = number;
    std::memset(group_epochs, 0, sizeof group_epochs);
    std::memset(simd_epochs, 0, sizeof simd_epochs);
#endif
    run_group(start_threads(s, groups, number));
    free_shared();
  }
}
}  // namespace metal_cpu

using namespace metal_cpu;

// The job: schedule, seed, grid, group, number of buffers; then of each buffer its
// size, whether it is an output (2: with an initial value) and its content.
int main(int, char** arguments) {
  FILE* file = std::fopen(arguments[1], "rb");
  int head[9];
  if (!file || std::fread(head, sizeof head, 1, file) != 1) return 3;
  schedule = Schedule(head[0]);
  draw.seed(head[1]);
  std::vector<void*> held(head[8]);
  std::vector<uint64_t> sizes(2 * head[8]);
  for (int i = 0; i < head[8]; i++) {
    if (std::fread(&sizes[2 * i], 16, 1, file) != 1) return 3;
    size_t size = sizes[2 * i];
    held[i] = std::malloc(size);  // each alone, so that its ends can be watched
    if (size && std::fread(held[i], size, 1, file) != 1) return 3;
#if defined(METAL_CPU_RACES)
    if (uint64_t kind = sizes[2 * i + 1]) races.watch(held[i], size, 1, i, kind == 2);
#endif
  }
  std::fclose(file);
  buffers = held.data();
  Sizes s;
  std::copy(head + 2, head + 8, s.grid);
  run_grid(s);
#if defined(METAL_CPU_RACES)
  races.check_all_written();
#endif
  file = std::fopen(arguments[1], "wb");
  for (int i = 0; i < head[8]; i++)
    if (sizes[2 * i + 1]) std::fwrite(held[i], sizes[2 * i], 1, file);
  return std::fclose(file);
}
