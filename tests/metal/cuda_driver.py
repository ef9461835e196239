"""Runs compiled kernels on an NVIDIA GPU, by the C interface of its driver."""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from cuda import CudaFault, Nvrtc, blocks, cuda_source
from generated import Call, Maker, Size

DRIVER = "libcuda.so.1"
COMPUTE_CAPABILITY = (75, 76)  # the numbers of its two attributes
# Before and behind each buffer. What a kernel writes there is found.
MARGIN, UNTOUCHED = 256, 0xA5


class Driver:
    """The first GPU, and memory and launches on it."""

    def __init__(self, path: str = DRIVER):
        try:
            self.functions = ctypes.CDLL(path)
        except OSError as error:
            raise CudaFault(
                f"no NVIDIA GPU: the driver does not load: {error}"
            ) from None
        self._call("cuInit", 0)
        count, self.device = ctypes.c_int(), ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        if not count.value:
            raise CudaFault("no NVIDIA GPU: the driver finds none")
        self._call("cuDeviceGet", ctypes.byref(self.device), 0)
        context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self.device)
        self._call("cuCtxSetCurrent", context)

    @property
    def name(self) -> str:
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, len(name), self.device)
        return name.value.decode()

    @property
    def architecture(self) -> str:
        parts = [ctypes.c_int() for _ in COMPUTE_CAPABILITY]
        for part, number in zip(parts, COMPUTE_CAPABILITY, strict=True):
            arguments = (ctypes.byref(part), number, self.device)
            self._call("cuDeviceGetAttribute", *arguments)
        return "sm_" + "".join(str(part.value) for part in parts)

    def run(
        self,
        cubin: bytes,
        buffers: Sequence[np.ndarray],
        grid: Size,
        threadgroup: Size,
    ) -> list[np.ndarray]:
        """Calls the kernel `run` of `cubin` once; what is in the buffers then."""
        with self._function(cubin) as function, self._memory(buffers) as places:
            block = (ctypes.c_uint * 3)(*threadgroup)
            numbers = [ctypes.c_uint(n) for n in grid]
            pointers = [place + MARGIN for place in places]
            parameters = [(ctypes.c_uint64 * len(pointers))(*pointers), *numbers]
            array = (ctypes.c_void_p * len(parameters))(
                *(ctypes.addressof(p) for p in parameters)
            )
            sizes = [ctypes.c_uint(n) for n in (*blocks(grid, threadgroup), *block)]
            nothing = (ctypes.c_uint(0), None)  # of dynamic memory and of streams
            self._call("cuLaunchKernel", function, *sizes, *nothing, array, None)
            self._call("cuCtxSynchronize")
            pairs = zip(places, buffers, strict=True)
            return [self._read(place, like) for place, like in pairs]

    @contextmanager
    def _function(self, cubin: bytes) -> Iterator[ctypes.c_void_p]:
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuModuleLoadData", ctypes.byref(module), cubin)
        try:
            self._call("cuModuleGetFunction", ctypes.byref(function), module, b"run")
            yield function
        finally:
            self._call("cuModuleUnload", module)

    @contextmanager
    def _memory(self, buffers: Sequence[np.ndarray]) -> Iterator[list[int]]:
        """A copy of each buffer on the GPU, with margins."""
        places: list[int] = []
        margin = bytes([UNTOUCHED]) * MARGIN
        try:
            for each in buffers:
                data, place = margin + each.tobytes() + margin, ctypes.c_uint64()
                size = ctypes.c_size_t(len(data))
                self._call("cuMemAlloc_v2", ctypes.byref(place), size)
                places.append(place.value)
                self._call("cuMemcpyHtoD_v2", place, data, size)
            yield places
        finally:
            for place in places:
                self._call("cuMemFree_v2", ctypes.c_uint64(place))

    def _read(self, place: int, like: np.ndarray) -> np.ndarray:
        data = np.empty(like.nbytes + 2 * MARGIN, np.uint8)
        pointer, size = data.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(data.size)
        self._call("cuMemcpyDtoH_v2", pointer, ctypes.c_uint64(place), size)
        inside = slice(MARGIN, MARGIN + like.nbytes)
        if (np.delete(data, inside) != UNTOUCHED).any():
            raise CudaFault("a kernel wrote before or behind a buffer")
        return data[inside].view(like.dtype).reshape(like.shape)

    def _call(self, name: str, *arguments: object) -> None:
        result = self.functions[name](*arguments)
        if result:
            text = ctypes.c_char_p()
            self.functions.cuGetErrorString(result, ctypes.byref(text))
            what = (text.value or b"an unknown error").decode()
            raise CudaFault(f"{name}: {what} ({result})")


@dataclass(eq=False)
class CudaGpu(Maker):
    """Runs kernels on a GPU, compiled for its architecture."""

    driver: Driver
    nvrtc: Nvrtc
    cubins: dict[str, bytes] = field(default_factory=dict)  # by source

    def execute(self, call: Call) -> bytes:
        source = cuda_source(call)
        if source not in self.cubins:
            architecture = self.driver.architecture
            program = self.nvrtc.compile(source, call.name, architecture)
            self.cubins[source] = program.cubin
        buffers = [*call.buffers, *call.outputs]
        shape = (call.grid, call.threadgroup)
        results = self.driver.run(self.cubins[source], buffers, *shape)
        inputs = zip(call.buffers, results, strict=False)
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in inputs):
            raise CudaFault(f"{call.name} changed one of its inputs")
        return b"".join(x.tobytes() for x in results[len(call.buffers) :])
