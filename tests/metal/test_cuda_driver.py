"""How kernels are launched on an NVIDIA GPU, by a stand-in for its driver."""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import run_cuda
import test_router
from checks import Cpu, mutated, random
from cuda import CudaFault, CudaSources, Program, blocks, library
from cuda_driver import CudaGpu, Driver

SOURCE = Path(__file__).parent / "stub_driver.cpp"
SCRIPT = Path(run_cuda.__file__)
FIRST, SECOND = np.array([3, 4], np.uint8), np.array([5.0])


@pytest.fixture(scope="session")
def stub(builds: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The library; `builds` skips where no compiler is."""
    library = tmp_path_factory.mktemp("stub") / "stub.so"
    command = ["g++", "-std=c++20", "-shared", "-fPIC", str(SOURCE), "-o", str(library)]
    subprocess.run(command, check=True)
    return str(library)


@pytest.mark.parametrize(
    ("grid", "threadgroup", "count"),
    [
        ((64, 1, 1), (64, 1, 1), (1, 1, 1)),
        ((96, 5, 1), (64, 1, 1), (2, 5, 1)),  # the last group is one simdgroup
        ((32, 2, 3), (64, 1, 1), (1, 2, 3)),  # so is the only one
        ((32, 5, 1), (32, 4, 1), (1, 2, 1)),
    ],
)
def test_groups_in_a_grid(grid: Any, threadgroup: Any, count: Any) -> None:
    assert blocks(grid, threadgroup) == count


@pytest.mark.parametrize(
    ("grid", "threadgroup", "message"),
    [
        ((48, 1, 1), (48, 1, 1), "part of a simdgroup"),
        ((80, 1, 1), (64, 1, 1), "part of a simdgroup"),
        ((48, 2, 1), (32, 2, 1), "part of a simdgroup"),  # other lanes than in full
        ((64, 1, 1), (2048, 1, 1), "too large"),
        ((64, 65536, 1), (64, 1, 1), "too large"),
    ],
)
def test_what_cannot_be_launched(grid: Any, threadgroup: Any, message: str) -> None:
    with pytest.raises(CudaFault, match=message):
        blocks(grid, threadgroup)


def test_a_call_that_cannot_be_launched_is_none_to_compile() -> None:
    kernel = CudaSources().metal_kernel("short", ["x"], ["out"], "out[0] = x[0];")
    call: dict[str, Any] = {"output_shapes": [(1,)], "output_dtypes": [mx.float32]}
    with pytest.raises(CudaFault, match="part of a simdgroup"):
        kernel(inputs=[mx.ones(1)], grid=(8, 1, 1), threadgroup=(8, 1, 1), **call)


def run(stub: str, module: bytes, size: int = 12) -> list[np.ndarray]:
    out = np.zeros(size, np.uint32)
    return Driver(stub).run(module, [FIRST, SECOND, out], (96, 5, 1), (64, 1, 1))


def left(stub: str) -> int:
    return ctypes.CDLL(stub).stub_left()


def test_a_launch_gets_its_numbers_and_buffers(stub: str) -> None:
    first, second, out = run(stub, b"3")
    # Blocks, threads, dynamic memory, the grid; the buffers' first bytes.
    assert out.tolist() == [2, 5, 1, 64, 1, 1, 0, 96, 5, 1, 3, 0]
    np.testing.assert_array_equal(first, FIRST)
    np.testing.assert_array_equal(second, SECOND)
    assert left(stub) == 0


def test_a_launch_that_fails(stub: str) -> None:
    message = r"cuCtxSynchronize: unspecified launch failure \(719\)"
    with pytest.raises(CudaFault, match=message):
        run(stub, b"3 fails")
    assert left(stub) == 0


def test_a_write_behind_a_buffer_is_caught(stub: str) -> None:
    with pytest.raises(CudaFault, match="before or behind a buffer"):
        run(stub, b"3 overruns")


def test_the_device_is_asked(stub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(stub)
    assert (driver.name, driver.architecture) == ("Stub", "sm_90")
    monkeypatch.setenv("STUB_DEVICES", "0")
    with pytest.raises(CudaFault, match="no NVIDIA GPU: the driver finds none"):
        Driver(stub)


class Standin:
    """Driver and compiler of a kernel that adds `step` to its input."""

    architecture = "sm_75"

    def __init__(self, step: int = 1, in_place: bool = False):
        self.step, self.in_place = step, in_place
        self.compiled: list[str] = []

    def compile(self, text: str, name: str, architecture: str) -> Program:
        self.compiled.append(architecture)
        return Program(b"", f"{name} for {architecture}".encode())

    def run(
        self, cubin: bytes, buffers: list[np.ndarray], grid: Any, threadgroup: Any
    ) -> list[np.ndarray]:
        assert cubin == b"plus for sm_75"
        x, _ = buffers
        return [x + self.step * self.in_place, x + self.step]


def plus(standin: Any) -> mx.array:
    kernel = CudaGpu(standin, standin).metal_kernel("plus", ["x"], ["out"], "x[0];")
    call = {
        "inputs": [mx.array([1, 2], mx.int32)],
        "grid": (32, 1, 1),
        "threadgroup": (32, 1, 1),
        "output_shapes": [(2,)],
        "output_dtypes": [mx.int32],
    }
    kernel(**call)
    return kernel(**call)[0]


def test_a_kernel_is_compiled_once_for_the_gpu_at_hand() -> None:
    standin = Standin()
    assert plus(standin).tolist() == [2, 3]
    assert standin.compiled == ["sm_75"]


def test_a_changed_input_is_caught() -> None:
    with pytest.raises(CudaFault, match="plus changed one of its inputs"):
        plus(Standin(in_place=True))


def few_experts(dtype: mx.Dtype) -> None:
    test_router.check(random(1, (3, 70), dtype), 3)


def test_the_script_tells_right_from_wrong(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the CPU in place of a GPU, with less to do."""
    monkeypatch.setattr(run_cuda, "DTYPES", (mx.float32,))
    monkeypatch.setitem(run_cuda.CASES, "router", few_experts)
    assert run_cuda.main(["--on-cpu", "--kernels", "router"]) == 0
    printed = capsys.readouterr().out
    assert re.fullmatch(r".*CPU.*\nrouter +float32 +2 results .* pass\n", printed)
    with mutated(monkeypatch, "router", "share / sum", "share"):
        assert not run_cuda.compare(cpu(), ["router"])
    assert capsys.readouterr().out.endswith(" FAIL\n")


def test_the_script_without_a_gpu() -> None:
    command = [sys.executable, str(SCRIPT), "--driver", "nowhere.so"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    reason = "no NVIDIA GPU: the driver does not load" if library() else "needs NVIDIA"
    assert done.stderr.startswith(reason) and done.stderr.count("\n") == 1


@pytest.mark.parametrize("code", [0, 3])
def test_the_script_runs_again_in_each_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A stand-in for the sanitizer notes how it is called."""
    tool, notes = tmp_path / run_cuda.SANITIZER, tmp_path / "notes"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {notes}\nexit {code}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(run_cuda, "run_on_gpu", lambda names, driver: 0)
    asked = ["--sanitize", "--kernels", "norms", "--driver", "d.so"]
    assert run_cuda.main(asked) == code
    said = notes.read_text().splitlines()
    expected = run_cuda.TOOLS if code == 0 else run_cuda.TOOLS[:1]
    assert [line.split()[1] for line in said] == list(expected)
    assert all(line.endswith("--driver d.so --kernels norms") for line in said)


def test_the_script_without_a_sanitizer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_cuda, "run_on_gpu", lambda names, driver: 0)
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    assert run_cuda.main(["--sanitize"]) == 1
    assert "no compute-sanitizer on the PATH" in capsys.readouterr().err
