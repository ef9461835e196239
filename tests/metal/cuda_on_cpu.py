"""Runs on the CPU the CUDA that NVRTC gets, with fibers for the lanes of warps."""

from dataclasses import dataclass

from cuda import cuda_source
from generated import Call
from metal_cpu import MetalCpu
from translate import ALLOCATE


@dataclass(eq=False)
class CudaOnCpu(MetalCpu):
    """As MetalCpu, by way of metal_cuda.h and cuda_simd.h."""

    def text(self, call: Call) -> str:
        count = len(call.buffers) + len(call.outputs)
        buffers = ", ".join(f"b[{i}]" for i in range(count))
        block = ", ".join(str(n) for n in call.threadgroup)
        return (
            cuda_source(call, ALLOCATE)
            + f"""
void run_thread(void** b, const metal_cpu::Thread& t) {{
  threadIdx = t.thread_position_in_threadgroup;
  blockIdx = t.threadgroup_position_in_grid;
  gridDim = t.threadgroups_per_grid;
  blockDim = {{{block}}};
  const metal_cpu::Position grid = t.threads_per_grid;
  metal::run({{{{{buffers}}}}}, grid.x, grid.y, grid.z);
}}
"""
        )
