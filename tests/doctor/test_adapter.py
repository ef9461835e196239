"""Adapters that are named in place of a model: whole, damaged, for another model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_gemma4.checkpoint.plan import plan_load, read_headers
from mlx_gemma4.doctor.findings import Level
from mlx_gemma4.doctor.model import Kind, ModelReport, report_on
from mlx_gemma4.hub.resolve import resolve
from mlx_gemma4.tune.adapters import AdapterSettings, new_adapter
from mlx_gemma4.tune.formats import write_adapter

CONFIG, WEIGHTS = "adapter_config.json", "adapters.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for the demo model."""
    folder = tmp_path_factory.mktemp("adapter")
    model = plan_load(*read_headers(resolve("demo"))).model
    settings = AdapterSettings("lora", rank=2, scale=1.0, targets=("attention",))
    write_adapter(folder, model, new_adapter(model, settings, 1), {"model": "demo"})
    return folder


@pytest.fixture
def adapter(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "adapter")


def texts(report: ModelReport, level: Level = Level.PROBLEM) -> list[str]:
    return [each.text for each in report.findings.all if each.level is level]


@pytest.mark.parametrize("headers_only", [True, False])
def test_a_whole_one(adapter: Path, headers_only: bool) -> None:
    report = report_on(str(adapter), headers_only)
    assert report.kind is Kind.ADAPTER and report.loads and not report.works
    (text,) = texts(report)
    assert f"gemma4 chat --adapter {adapter}" in text
    assert texts(report, Level.OK) == ([] if headers_only else ["It fits demo."])


def state(**changes: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text()) | changes
        (folder / CONFIG).write_text(json.dumps(config))

    return change


def write(change: Callable[[dict[str, mx.array]], object]) -> Callable[[Path], object]:
    def rewrite(folder: Path) -> None:
        tensors: Any = mx.load(str(folder / WEIGHTS))
        mx.eval(tensors)
        change(tensors)
        mx.save_safetensors(str(folder / WEIGHTS), tensors)

    return rewrite


def without_half(tensors: dict[str, mx.array]) -> None:
    del tensors[next(name for name in tensors if name.endswith("lora_a"))]


def cut(folder: Path) -> None:
    file = folder / WEIGHTS
    file.write_bytes(file.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("damage", "said", "by_headers"),
    [
        (lambda f: (f / CONFIG).unlink(), "adapter_config.json cannot be read", True),
        (lambda f: (f / CONFIG).write_text("{"), "is not valid JSON", True),
        (state(fine_tune_type="x"), "fine_tune_type is 'x'", True),
        (state(lora_parameters=None), "states no lora_parameters.scale", True),
        (lambda f: (f / WEIGHTS).unlink(), "adapters.safetensors is missing", True),
        (cut, "adapters.safetensors", True),
        (write(lambda t: t.update(x=mx.array([1]))), "holds x (I32)", True),
        (
            write(lambda t: t.update(x=mx.array([mx.nan]))),
            "no finite numbers: x",
            False,
        ),
        (write(without_half), "q_proj.lora_b", False),
        (lambda f: (f / CONFIG).write_bytes(b"\xff{}"), "is not valid JSON", True),
    ],
)
def test_damage(
    adapter: Path, damage: Callable[[Path], object], said: str, by_headers: bool
) -> None:
    damage(adapter)
    for headers_only in (True, False):
        report = report_on(str(adapter), headers_only)
        assert report.kind is Kind.ADAPTER
        found = by_headers or not headers_only
        assert report.loads is not found
        assert any(said in text for text in texts(report)) is found


@pytest.mark.parametrize("name", ["org/model", "./nowhere", None, 3])
def test_one_whose_model_is_not_here(
    adapter: Path, name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    state(model=name)(adapter)
    report = report_on(str(adapter), headers_only=False)
    assert report.loads and "is not here" in texts(report, Level.UNKNOWN)[0]
