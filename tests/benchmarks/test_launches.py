"""How many launches a decoded token takes, by the committed count."""

import json
import subprocess
import sys
from typing import Any

import pytest
from places import BENCHMARKS

SCRIPT = BENCHMARKS / "launches.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not SCRIPT.is_file(), reason="benchmarks/ is not beside the tests"
    ),
]


def run(*arguments: str) -> str:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def counted() -> dict[str, Any]:
    return json.loads(run("--models", "E2B", "26B-A4B", "--json"))


@pytest.fixture(scope="module")
def moe(counted: dict[str, Any]) -> dict[str, Any]:
    return counted["26B-A4B"]


@pytest.mark.parametrize(("model", "share"), [("26B-A4B", 0.5), ("E2B", 0.6)])
def test_the_kernels_save_launches(
    counted: dict[str, Any], model: str, share: float
) -> None:
    launches = counted[model]["launches_by_kernel"]
    assert launches["all"] <= share * launches["mlx-lm"]


def test_one_object_for_each_shape(counted: dict[str, Any]) -> None:
    figures = "launches", "bytes", "host_ms", "prefill_primitives", "sampler_launches"
    for each in counted.values():
        assert all(each[key] > 0 and each["mlx_lm"][key] > 0 for key in figures)
        assert each["launches"] == each["launches_by_kernel"]["all"]
        assert each["mlx_lm"]["launches"] == each["launches_by_kernel"]["mlx-lm"]
        assert each["bytes"] == each["weight_bytes"] + each["cache_bytes"]
        assert each["sampler_launches"] < each["mlx_lm"]["sampler_launches"]
        assert set(each["host_ms_by_kernel"]) == {"mlx-lm", "plain", "all"}
        assert each["bytes"] == pytest.approx(each["mlx_lm"]["bytes"], rel=0.01)


def test_what_each_kernel_replaces(moe: dict[str, Any]) -> None:
    """Of 30 layers each: norms and sums, of which MLX's compiler fuses some, choosing
    experts, and running them; of five full ones, attention that MLX makes of four and
    the kernel of two."""
    launches, primitives = moe["launches_by_kernel"], moe["primitives"]
    removed = {k: launches["plain"] - launches[k] for k in launches}
    assert removed["norms"] == 10 * 30
    assert removed["heads"] == 5 * 30
    assert removed["router"] == 5 * 30
    assert removed["experts"] == 2 * 30
    assert removed["attention"] == 2 * 5
    made = {"RandomBits", "Quantize"}  # of weights, which is no part of a step
    assert not made & {*primitives["plain"], *primitives["all"]}
    assert primitives["plain"]["GatherQMM"] == 2 * 30
    assert "GatherQMM" not in primitives["experts"]


def test_bytes_are_those_of_the_published_shape(moe: dict[str, Any]) -> None:
    """Eight of 128 experts, and the whole vocabulary once, at 4.5 bits a weight."""
    width, vocabulary = 2816, 262144
    experts = 30 * 8 * 3 * width * 704
    head = vocabulary * width
    assert moe["weight_bytes"] > (experts + head) * 4.5 / 8
    sliding, full = 25 * 8 * 256 * 512, 5 * 2 * 512 * 512
    assert moe["cache_bytes"] == 2 * 2 * (sliding + full)


def test_the_table_has_a_row_for_each_model() -> None:
    lines = run("--models", "31B").splitlines()
    assert sum(line.startswith("31B") for line in lines) == 5
