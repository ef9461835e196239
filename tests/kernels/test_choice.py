"""Which kernels run, without any Metal."""

from importlib.resources import files

import mlx.core as mx
import pytest
import tiny

from mlx_gemma4.kernels import NAMES, enabled, launch, using


@pytest.fixture(autouse=True)
def fresh_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEMMA4_KERNELS", raising=False)
    launch._from_environment.cache_clear()


@pytest.mark.parametrize(
    ("setting", "names"),
    [("", ()), ("off", ()), ("on", NAMES), (" norms ", ("norms",))],
)
def test_settings(setting: str, names: tuple[str, ...]) -> None:
    assert launch.parse(setting) == frozenset(names)


def test_an_unknown_kernel_is_named() -> None:
    with pytest.raises(ValueError, match="GEMMA4_KERNELS.*'norm'.*norms"):
        launch.parse("norm")


def test_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    assert not any(enabled(name) for name in NAMES)


def test_on_where_there_is_metal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMMA4_KERNELS", "on")
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    assert all(enabled(name) for name in NAMES)


def test_never_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMMA4_KERNELS", "on")
    monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    assert not any(enabled(name) for name in NAMES)


def test_using_wins_and_ends() -> None:
    with using("norms"):
        assert enabled("norms")
        with using():
            assert not enabled("norms")
    assert not enabled("norms")


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
