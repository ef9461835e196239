// A stand-in for NVIDIA's driver: device memory is the host's, and a launch writes down
// what it was given, as numbers of 32 bits in the last buffer. A module is text: how
// many buffers its kernel takes, and what its launch shall do wrong.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>

typedef uint64_t Pointer;
namespace {
enum { NO_ERROR = 0, INVALID = 1, NO_DEVICE = 100, NOT_FOUND = 500, FAILED = 719 };
std::map<Pointer, size_t> memory;
int modules = 0;
bool failed = false;
bool current = false;

bool owned(Pointer at, size_t bytes) {
  auto next = memory.upper_bound(at);
  if (next == memory.begin()) return false;
  auto [start, size] = *--next;
  return at + bytes <= start + size;
}
}  // namespace

extern "C" {
// What is still allocated or loaded; for the tests.
int stub_left() { return int(memory.size()) + modules; }

int cuInit(unsigned flags) { return flags ? INVALID : NO_ERROR; }
int cuDeviceGetCount(int* count) {
  *count = getenv("STUB_DEVICES") ? atoi(getenv("STUB_DEVICES")) : 1;
  return NO_ERROR;
}
int cuDeviceGet(int* device, int number) {
  *device = 7;
  return number ? INVALID : NO_ERROR;
}
int cuDeviceGetName(char* name, int size, int device) {
  strncpy(name, "Stub", size);
  return device == 7 ? NO_ERROR : INVALID;
}
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  *value = attribute == 75 ? 9 : 0;
  return device == 7 && (attribute == 75 || attribute == 76) ? NO_ERROR : INVALID;
}
int cuDevicePrimaryCtxRetain(void** context, int device) {
  *context = &memory;
  return device == 7 ? NO_ERROR : INVALID;
}
int cuCtxSetCurrent(void* context) {
  current = context == &memory;
  return current ? NO_ERROR : INVALID;
}
int cuCtxSynchronize() { return failed ? FAILED : NO_ERROR; }
int cuGetErrorString(int error, const char** text) {
  *text = error == FAILED ? "unspecified launch failure" : "something else";
  return NO_ERROR;
}

int cuModuleLoadData(void** module, const void* image) {
  *module = strdup((const char*)image);
  modules++;
  return current ? NO_ERROR : INVALID;
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
  *function = module;
  return strcmp(name, "run") ? NOT_FOUND : NO_ERROR;
}
int cuModuleUnload(void* module) {
  free(module);
  modules--;
  return NO_ERROR;
}

int cuMemAlloc_v2(Pointer* at, size_t bytes) {
  if (!current || !bytes) return INVALID;
  *at = Pointer(malloc(bytes));
  memory[*at] = bytes;
  return NO_ERROR;
}
int cuMemFree_v2(Pointer at) {
  if (!memory.erase(at)) return INVALID;
  free((void*)at);
  return NO_ERROR;
}
int cuMemcpyHtoD_v2(Pointer to, const void* from, size_t bytes) {
  if (!owned(to, bytes)) return INVALID;
  memcpy((void*)to, from, bytes);
  return NO_ERROR;
}
int cuMemcpyDtoH_v2(void* to, Pointer from, size_t bytes) {
  if (!owned(from, bytes)) return INVALID;
  memcpy(to, (const void*)from, bytes);
  return NO_ERROR;
}

// Blocks, threads of a block, dynamic memory, the grid, and each buffer's first byte.
int cuLaunchKernel(void* function, unsigned bx, unsigned by, unsigned bz, unsigned tx,
                   unsigned ty, unsigned tz, unsigned shared, void* stream,
                   void** parameters, void** extra) {
  if (stream || extra) return INVALID;
  char* module = (char*)function;
  const int count = atoi(module);
  const Pointer* buffers = (const Pointer*)parameters[0];
  uint32_t given[10] = {bx, by, bz, tx, ty, tz, shared};
  for (int i = 0; i < 3; i++) given[7 + i] = *(const uint32_t*)parameters[1 + i];
  uint32_t* out = (uint32_t*)buffers[count - 1];
  if (!owned(Pointer(out), sizeof given + 4 * (count - 1))) return INVALID;
  memcpy(out, given, sizeof given);
  for (int i = 0; i < count - 1; i++) out[10 + i] = *(const uint8_t*)buffers[i];
  failed = strstr(module, "fails");
  if (strstr(module, "overruns")) out[10 + count - 1] = 0;
  if (strstr(module, "scribbles")) *(uint8_t*)buffers[0] ^= 1;
  return NO_ERROR;
}
}
