"""A tiny model of each real shape decodes the same with all kernels on."""

from collections import Counter

import mlx.core as mx
import numpy as np
import pytest
import tiny
from checks import Cpu

from mlx_gemma4.kernels import NAMES, using

SHAPES = ("E2B", "E4B", "26B-A4B", "31B")
# Of a step; in KV-shared layers attention turns the queries.
LAUNCHES = {
    "E2B": {"norms": 30, "heads": 5, "attention": 10}
    | {"project": 5, "geglu": 10, "gate": 10, "dense": 37},
    "E4B": {"norms": 36, "heads": 6, "attention": 12}
    | {"project": 6, "geglu": 12, "gate": 12, "dense": 44},
    "26B-A4B": {"norms": 12, "heads": 6, "attention": 6}
    | {"project": 6, "geglu": 6, "dense": 19, "router": 6, "experts": 12},
    "31B": {"norms": 12, "heads": 6, "attention": 6}
    | {"project": 6, "geglu": 6, "dense": 13},
}


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("variant", SHAPES)
def test_a_step_equals_the_plain_one(cpu: Cpu, variant: str, rows: int) -> None:
    made, harness = tiny.build_packed(variant, 7), cpu()
    tokens = mx.array([tiny.random_tokens(10 + rows, 6)])
    results = []
    for names in ((), NAMES):
        cache = made.make_cache()
        made(tokens[:, :10], cache)
        with using(*names, make=harness.metal_kernel):
            results.append(made(tokens[:, 10:], cache))
    np.testing.assert_allclose(results[1], results[0], atol=1e-4)
    expected = {f"gemma4_{name}": n for name, n in LAUNCHES[variant].items()}
    ours = Counter("_".join(name.split("_")[:2]) for name in harness.launches)
    assert ours == expected
