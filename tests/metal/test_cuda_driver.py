"""How kernels are launched on an NVIDIA GPU, by a stand-in for its driver."""

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda import CudaFault
from cuda_driver import Driver, blocks

SOURCE = Path(__file__).parent / "stub_driver.cpp"
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
