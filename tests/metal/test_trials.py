"""What tells a kernel that computes something else from one that is right."""

from collections.abc import Callable, Sequence

import pytest
import tiny
from checks import Cpu, mutated
from compiling import uncompiled

from mlx_gemma4.bench import check as checking
from mlx_gemma4.bench import trials
from mlx_gemma4.bench.trials import Sampled, Timing
from mlx_gemma4.kernels import NAMES

Run = Callable[[], float]
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


@pytest.fixture(autouse=True)
def few_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is beyond what one launch of `attention` takes."""
    monkeypatch.setattr(trials, "CONTEXTS", (20, 530))


def sampled(cpu: Cpu, name: str) -> Sampled:
    return Sampled(tiny.build_packed(VARIANTS[name], 7), cpu().metal_kernel)


def kind(use: str) -> str:
    return use.partition(" ")[0]


def uses_of(model: Sampled, name: str) -> list[str]:
    """Those of one kernel that the model has arrays for."""
    return [use for use in model.uses() if kind(use) == name]


@pytest.mark.parametrize("name", FAULTS)
def test_a_right_kernel_passes_and_a_wrong_one_does_not(
    cpu: Cpu, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = sampled(cpu, name)
    uses = uses_of(model, name)
    assert uses and not any(map(model.fault, uses))
    model.make = cpu().metal_kernel  # made kernels are kept by what makes them
    with mutated(monkeypatch, *FAULTS[name]):
        for use in uses:
            fault = model.fault(use)
            assert fault is not None and fault.startswith("differs from MLX by ")


def test_values_that_are_not_finite(cpu: Cpu, monkeypatch: pytest.MonkeyPatch) -> None:
    model = sampled(cpu, "gate")
    with mutated(monkeypatch, "gate", "gelu(total[i])", "NAN"):
        assert {model.fault(use) for use in uses_of(model, "gate")} == {
            "gives values that are not finite"
        }


def test_a_kernel_that_the_model_does_not_use(cpu: Cpu) -> None:
    model = Sampled(tiny.build_packed("31B", 7), cpu().metal_kernel)
    assert not uses_of(model, "router")


def test_a_check_leaves_out_what_is_wrong_and_what_does_not_pay(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loss(self: Sampled, use: str, seconds: float) -> str | None:
        return "slower" if use.startswith("heads") else None

    monkeypatch.setattr(Sampled, "loss", loss)
    monkeypatch.setattr(trials, "in_turns", lambda *_: Timing((1.0,) * 10))
    said: list[Sequence[object]] = []
    model = sampled(cpu, "router")
    with mutated(monkeypatch, *FAULTS["router"]), uncompiled():
        attention = {use for use in model.uses() if kind(use) == "attention"}
        checking.check(model, attention, said.append)
    out = {kind(str(use)): str(why) for what, use, *why in said if what == "out"}
    assert "differs" in out.pop("router") and "slower" in out.pop("heads")
    assert not out
    word, on = said[-1]
    assert word == "on" and {"norms", "experts"} <= set(map(kind, on))  # type: ignore[arg-type]
    assert not {"router", "heads", "attention"} & set(map(kind, on))  # type: ignore[arg-type]


def test_what_does_not_do_together_is_off(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sampled, "loss", lambda *_: None)

    def in_turns(ours: Run, theirs: Run, seconds: float) -> Timing:
        assert ours() > 0 and theirs() > 0
        return Timing((1.2,) * 10)

    monkeypatch.setattr(trials, "in_turns", in_turns)
    said: list[Sequence[object]] = []
    model = sampled(cpu, "gate")
    left_out = {use for use in model.uses() if kind(use) != "gate"}
    with uncompiled():
        checking.check(model, left_out, said.append)
    assert said[-2:] == [
        ("out", "all", "all together slower: 1.20 times MLX's time"),
        ("on", []),
    ]


def test_a_step_whose_logits_are_others_is_told(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond each kernel's own results: what a compiled step makes of them."""
    monkeypatch.setattr(trials, "in_turns", lambda *_: Timing((1.0,) * 10))
    model = sampled(cpu, "gate")
    uses = uses_of(model, "gate")
    with uncompiled():
        assert model.fault_together(uses) is None
        monkeypatch.setattr(trials, "fault_of", lambda use: None)
        model.make = cpu().metal_kernel
        with mutated(
            monkeypatch, "gate", "gelu(total[i]) * float(factor[at])", "30.0f"
        ):
            fault = model.fault_together(uses)
    assert fault is not None and fault.startswith("all together: logits differ by")
