"""Kernels on the CPU: where compiled ones are kept, and when they cannot run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import metal_cpu
import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are slow: they compile every kernel."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("slow")


@pytest.fixture(scope="session")
def builds(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Compiled kernels, kept between runs where pytest keeps its cache."""
    if reason := metal_cpu.missing():
        pytest.skip(reason)
    cache = getattr(request.config, "cache", None)
    return cache.mkdir("metal") if cache else tmp_path_factory.mktemp("metal")


@pytest.fixture(scope="session")
def cpu(builds: Path) -> Callable[..., metal_cpu.MetalCpu]:
    """`cpu(check=…, schedule=…, seed=…)`: something that runs kernels."""

    def make(**options: Any) -> metal_cpu.MetalCpu:
        return metal_cpu.MetalCpu(builds, **options)

    return make
