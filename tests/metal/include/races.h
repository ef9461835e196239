// Watches outputs and threadgroup memory for races and for reads before any write.
//
// In this mode the kernel is compiled with -fsanitize=thread, whose calls come here
// instead of to a library: with barriers as the only order there is, whether two
// accesses are ordered can be decided exactly and needs no luck of the schedule.
#pragma once
#include <cstdio>
#include <map>
#include <vector>

#include "runtime.h"

namespace metal_cpu {
struct Access {
  long group = -1;
  unsigned thread = 0;
  unsigned epoch = 0;      // threadgroup barriers passed
  unsigned sub_epoch = 0;  // barriers of either kind its simdgroup has passed
  const void* at = nullptr;

  bool before(const Access& now) const {
    if (group < 0) return true;
    if (group != now.group) return false;
    if (thread == now.thread || epoch < now.epoch) return true;
    return thread / 32 == now.thread / 32 && sub_epoch < now.sub_epoch;
  }
};

struct Byte {
  Access write, reads[2];  // of two threads, of two simdgroups if there are
  bool written = false;
};

struct Region {
  const char* start;
  std::vector<Byte> bytes;
  int flag;  // of mem_flags: 1 device, 2 threadgroup
  int number;
};

class Races {
 public:
  Access now[4];  // by flag: who is running, and since which barrier
  int unchecked = 0;

  void watch(const void* start, size_t size, int flag, int number, bool written) {
    Region& r = regions[(const char*)start];
    r = {(const char*)start, std::vector<Byte>(size), flag, number};
    if (written)
      for (Byte& b : r.bytes) b.written = true;
  }
  void forget(const void* start) { regions.erase((const char*)start); }

  void touch(const void* p, size_t size, bool writes, const void* at) {
    if (unchecked) return;
    auto found = regions.upper_bound((const char*)p);
    if (found == regions.begin()) return;
    Region& r = (--found)->second;
    size_t first = (const char*)p - r.start;
    if (first >= r.bytes.size()) return;
    Access access = now[r.flag];
    access.at = at;
    for (size_t i = first; i < first + size && i < r.bytes.size(); i++) {
      if (writes) write(r, i, access);
      else read(r, i, access);
    }
  }

  void check_all_written() {
    for (auto& [start, r] : regions) {
      size_t missing = 0;
      for (Byte& b : r.bytes) missing += !b.written;
      if (missing)
        fault("output %d: %zu of %zu bytes were never written", r.number, missing,
              r.bytes.size());
    }
  }

 private:
  std::map<const char*, Region> regions;

  static const char* place(const Region& r) {
    static char text[64];
    const char* memory = r.flag == 1 ? "output" : "threadgroup array";
    std::snprintf(text, sizeof text, "%s %d", memory, r.number);
    return text;
  }
  static void race(const Region& r, size_t i, const Access& a, const Access& b,
                   const char* kind) {
    fault("data race (%s) on %s, byte %zu: threads %u of group %ld and %u of group %ld"
          " at @%p and @%p", kind, place(r), i, a.thread, a.group, b.thread, b.group,
          a.at, b.at);
  }
  static void read(Region& r, size_t i, const Access& now) {
    Byte& b = r.bytes[i];
    if (!b.written)
      fault("%s, byte %zu is read before anything was written, at @%p", place(r), i,
            now.at);
    if (!b.write.before(now)) race(r, i, b.write, now, "write, read");
    if (b.reads[0].before(now)) b.reads[0] = now;
    else if (b.reads[1].before(now) || b.reads[1].thread / 32 == b.reads[0].thread / 32)
      b.reads[1] = now;
  }
  static void write(Region& r, size_t i, const Access& now) {
    Byte& b = r.bytes[i];
    if (!b.write.before(now)) race(r, i, b.write, now, "write, write");
    for (Access& read : b.reads)
      if (!read.before(now)) race(r, i, read, now, "read, write");
    b = {now, {}, true};
  }
};

extern Races races;
}  // namespace metal_cpu

#define HOOK(name, size, writes)                                        \
  extern "C" void __tsan_##name(void* p) {                              \
    metal_cpu::races.touch(p, size, writes, __builtin_return_address(0)); \
  }
#define HOOKS(size)                                                       \
  HOOK(read##size, size, false) HOOK(write##size, size, true)             \
  HOOK(unaligned_read##size, size, false) HOOK(unaligned_write##size, size, true)
#define RANGE(name, writes)                                             \
  extern "C" void __tsan_##name##_range(void* p, unsigned long size) {  \
    metal_cpu::races.touch(p, size, writes, __builtin_return_address(0)); \
  }
#define DEFINE_RACE_HOOKS                                                  \
  HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)                            \
  RANGE(read, false) RANGE(write, true)                                    \
  extern "C" void __tsan_init() {}                                         \
  extern "C" void __tsan_func_entry(void*) {}                              \
  extern "C" void __tsan_func_exit() {}
