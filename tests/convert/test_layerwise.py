"""Conversions that are measured before they are made: as they will be."""

from pathlib import Path

import jobs
import mlx.core as mx
import pytest

from mlx_gemma4.convert import check
from mlx_gemma4.convert.layerwise import Layerwise, Text, Version
from mlx_gemma4.convert.plan import Plan
from mlx_gemma4.convert.source import local

TOKENS = [[2, *(7 + 13 * i % 50 for i in range(21))], [2, *range(9, 20)]]
TEXT = Text.of(TOKENS, 0)


def version(plan: Plan) -> Version:
    return {tensor.name: tensor for tensor in plan.tensors if tensor.packing}


@pytest.mark.parametrize(
    "variant",
    [
        "untied",
        *(pytest.param(v, marks=pytest.mark.slow) for v in ("demo", "E2B", "31B")),
    ],
)
def test_measured_is_what_comes_out(variant: str, tmp_path: Path) -> None:
    """Experts, tables, shared keys, an untied head and places of media: the divergence
    is that of the model which is converted then, token by token."""
    source = jobs.source(tmp_path / "hub", variant)
    plans = [jobs.plan(source, recipe) for recipe in ("2bit", "8bit")]
    model = Layerwise(local(source), plans[0].tensors)
    advanced = list[int]()
    versions = [version(plan) for plan in plans]
    found = model.compare(versions, TEXT, advanced.append)
    model.close()
    assert sum(advanced) == model.steps(versions)
    for fidelity, recipe in zip(found, ("2bit", "8bit"), strict=True):
        jobs.convert(source, tmp_path / recipe, recipe)
        wanted = check.compare(
            source, tmp_path / recipe, tokens=TOKENS, dtype=mx.float32
        )
        assert fidelity.as_dict() == pytest.approx(wanted.as_dict(), rel=1e-3, abs=2e-5)
        assert fidelity.kl_mean > 1e-6
    assert found[0].kl_mean > 10 * found[1].kl_mean


@pytest.mark.slow
def test_versions_that_differ_late_branch_late(tmp_path: Path) -> None:
    """What is the same is computed once, and nothing of one version stays in another:
    alone or together, in any order, each has the same divergence."""
    source = jobs.source(tmp_path)
    plan = jobs.plan(source, "2bit")
    whole = version(plan)
    parts = [
        {name: t for name, t in whole.items() if f"layers.{layer}." in name}
        for layer in (0, 1)
    ]
    model = Layerwise(local(source), plan.tensors)
    together = model.compare([whole, *parts, {}], TEXT)
    assert [one.kl_mean > 0 for one in together] == [True, True, True, False]
    assert model.compare([{}, *parts[::-1], whole], TEXT) == together[::-1]
    assert model.steps([parts[1]]) < model.steps([parts[0]])
    model.close()
