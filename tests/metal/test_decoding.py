"""A tiny model of each real shape decodes the same with all kernels on."""

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import tiny
from checks import Cpu

from mlx_gemma4.cache import buffers
from mlx_gemma4.decoding.step import DecodingStep
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


@pytest.mark.parametrize("rows", [1, 3, pytest.param(9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("variant", SHAPES)
def test_a_compiled_step_asks_for_the_same(cpu: Cpu, variant: str, rows: int) -> None:
    """Its parts in a row; what would be compiled is only called here."""
    made, harness = tiny.build_packed(variant, 7), cpu()
    tokens = mx.array([tiny.random_tokens(10 + 2 * rows, 6)])
    results = []
    for names in ((), NAMES):
        cache = made.make_cache()
        made(tokens[:, :10], cache)
        with using(*names, make=harness.metal_kernel):
            step = DecodingStep(made, lambda f: f) if names else made
            for start in (10, 10 + rows):
                found = step(tokens[:, start : start + rows], cache)
                results.append(found[0] if names else found)
    np.testing.assert_allclose(results[2:], results[:2], atol=1e-4)
    expected = {f"gemma4_{name}": 2 * n for name, n in LAUNCHES[variant].items()}
    ours = Counter("_".join(name.split("_")[:2]) for name in harness.launches)
    assert ours == expected


def test_graphs_of_smaller_buffers_are_not_kept(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would pile up in a long chat: layers with shared keys read whole buffers."""
    monkeypatch.setattr(buffers, "STEP", 8)
    model, graphs = tiny.build_packed("E2B", 7), list[weakref.ref[Any]]()

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        if function.__name__ == "rest":
            graphs.append(weakref.ref(function))
        return function

    cache, plain = model.make_cache(), model.make_cache()
    with using(*NAMES, make=cpu().metal_kernel):
        step = DecodingStep(model, compiled)
        for token in tiny.random_tokens(18, 6):
            ours, _ = step(mx.array([[token]]), cache)
            with using():
                whole = model(mx.array([[token]]), plain)
            np.testing.assert_allclose(ours, whole, atol=1e-4)
    assert len(graphs) == 3
    assert [ref() is not None for ref in graphs] == [False, False, True]
