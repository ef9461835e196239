"""What tells a kernel that computes something else from one that is right."""

import math

import pytest
import tiny
from checks import Cpu, mutated

from mlx_gemma4.bench.auto import WITHIN, farthest
from mlx_gemma4.kernels import NAMES

CONTEXT = 20  # beyond the rows that kernels for decoding take
VARIANTS = dict.fromkeys(NAMES, "26B-A4B") | {"gate": "E2B"}
# Of each kernel: its file, and what stands in place of what.
FAULTS = {
    "norms": ("norms", "float(weights[n][k][e])", "1.0f"),
    "heads": ("rotate", "first * c - second * s", "first * c + second * s"),
    "router": ("router", "index = min(winner, experts - 1)", "index = k"),
    "experts": ("experts_down", "share * part", "part"),
    "gate": ("gate", "gelu(total[i]) * float(factor[at])", "gelu(total[i])"),
    "project": ("project", "T(total[i])", "T(0.5f * total[i])"),
    "geglu": ("geglu", "gelu(total[i])", "total[i]"),
    "dense": ("dense", "T(total[i])", "T(0.5f * total[i])"),
    "attention": ("attention", "n + k ? dot", "n + k ? 0.5f * dot"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_right_kernel_is_near_its_twin(cpu: Cpu, name: str) -> None:
    model = tiny.build_packed(VARIANTS[name], 7)
    far = farthest(model, name, CONTEXT, cpu().metal_kernel)
    assert far is not None and far < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_kernel_is_far(
    cpu: Cpu, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.build_packed(VARIANTS[name], 7)
    with mutated(monkeypatch, *FAULTS[name]):
        far = farthest(model, name, CONTEXT, cpu().metal_kernel)
    assert far is not None and far > WITHIN


def test_values_that_are_not_finite(cpu: Cpu, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.build_packed("E2B", 7)
    with mutated(monkeypatch, "gate", "gelu(total[i])", "NAN"):
        far = farthest(model, "gate", CONTEXT, cpu().metal_kernel)
    assert far is not None and math.isnan(far)


def test_a_kernel_that_the_model_does_not_use(cpu: Cpu) -> None:
    model = tiny.build_packed("31B", 7)
    assert farthest(model, "router", CONTEXT, cpu().metal_kernel) is None
