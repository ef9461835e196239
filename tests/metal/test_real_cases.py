"""The cases that GPUs are to compute, on a CPU here and on an Apple GPU where there is
one: float64 is what both have to agree with."""

import mlx.core as mx
import pytest
from checks import DTYPES, Cpu
from counting import Launches
from real_cases import CASES, SLOW_CASES

from mlx_gemma4.kernels import using


@pytest.mark.parametrize("name", CASES)
def test_on_a_cpu(cpu: Cpu, name: str) -> None:
    """What fails here would fail on every GPU, and say nothing about it."""
    harness = cpu()
    with using(name, make=harness.metal_kernel):
        CASES[name](mx.float32)
    assert harness.launches


@pytest.mark.metal
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_on_metal(name: str, dtype: mx.Dtype) -> None:
    """Long contexts too, which no tiny model has."""
    launches = Launches()
    with using(name, make=launches.make):
        CASES[name](dtype)
        if name in SLOW_CASES:
            SLOW_CASES[name](dtype)
    assert launches.count
