"""Which kernels run, without any Metal."""

from collections.abc import Iterator
from importlib.resources import files

import mlx.core as mx
import pytest
import tiny

from mlx_gemma4.kernels import NAMES, any_on, collecting, enabled, launch, using
from mlx_gemma4.kernels.launch import differentiable, in_order


@pytest.fixture(autouse=True)
def fresh_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("GEMMA4_KERNELS", raising=False)
    monkeypatch.setattr(launch, "_settled", [])
    launch._from_environment.cache_clear()
    yield
    launch._from_environment.cache_clear()


@pytest.mark.parametrize(
    ("setting", "names"),
    [("", ()), ("auto", ()), ("off", ()), ("on", NAMES), (" norms ", ("norms",))],
)
def test_settings(setting: str, names: tuple[str, ...]) -> None:
    assert launch.parse(setting) == frozenset(names)


def test_an_unknown_kernel_is_named() -> None:
    with pytest.raises(ValueError, match="GEMMA4_KERNELS.*'norm'.*norms"):
        launch.parse("norm")
    with pytest.raises(ValueError, match="'norm'"), using("norm 5"):
        pass


@pytest.mark.parametrize("setting", [None, "", "auto"])
def test_by_default_a_check_decides(
    setting: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if setting is not None:
        monkeypatch.setenv("GEMMA4_KERNELS", setting)
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    assert launch.is_auto()
    assert not any(enabled(name) for name in NAMES) and not any_on()
    launch.settle("norms", "dense 640x96")
    assert enabled("norms") and enabled("norms", "any") and enabled("dense", "640x96")
    assert any_on() and not enabled("dense", "640x9")
    assert enabled("dense")  # at some sizes


def test_on_leaves_out_what_can_gain_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMMA4_KERNELS", "on")
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    assert all(enabled(name) for name in NAMES) and not launch.is_auto()
    assert enabled("dense", "2816x704") and enabled("project", "1536x2048")
    assert not enabled("dense", "1536x2048")
    with using("dense"):
        assert enabled("dense", "1536x2048")


@pytest.mark.parametrize("setting", ["on", "auto", "norms"])
def test_never_on_a_cpu(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMMA4_KERNELS", setting)
    monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    assert not any(enabled(name) for name in NAMES) and not launch.is_auto()


def test_using_wins_and_ends() -> None:
    with using("norms"):
        assert enabled("norms")
        with using():
            assert not enabled("norms")
        with using("heads 256d"):
            assert enabled("heads", "256d") and not enabled("heads", "512d")
    assert not enabled("norms")


def test_trials_are_collected_and_twins_run() -> None:
    def twin(x: mx.array) -> list[mx.array]:
        return [x + 1]

    with using("norms 3"), collecting() as those:
        assert not enabled("heads", "256d") and enabled("norms", "3")
        (result,) = differentiable(pytest.fail, twin)(mx.array([1.0]))
    assert result.item() == 2
    (trial,) = those.found
    assert trial.use == "norms 3" and trial.twin is twin and trial.pairs is in_order
    assert trial.arrays[0].item() == 1


def test_every_source_is_installed() -> None:
    package = files("mlx_gemma4.kernels")
    found = {f.name for f in package.iterdir() if f.name.endswith(".metal")}
    ops = {
        "norms",
        "heads",
        "affine",
        "dense",
        "gate",
        "geglu",
        "project",
        "router",
        "experts_gate_up",
        "experts_down",
        "attention",
        "attention_sum",
    }
    assert found == {f"{op}.metal" for op in ops | {"reduce", "rotate"}}


def test_prompts_launch_nothing() -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a kernel was made")

    with using(*NAMES, make=refuse):  # type: ignore[arg-type]
        mx.eval(tiny.build("26B-A4B")(mx.array([tiny.random_tokens(17, 1)])))
