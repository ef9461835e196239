"""`gemma4 convert --dry-run` on published checkpoints: headers of the real size."""

import json
from pathlib import Path
from typing import Any

import packed
import pytest
import real
import typer

from mlx_gemma4.cli.convert.command import convert

FLOAT = {
    "gemma-4-E2B-it": ("E2B", "google/gemma-4-E2B-it"),
    "gemma-4-E2B": ("E2B", "google/gemma-4-E2B"),
    "gemma-4-E4B-it": ("E4B", "google/gemma-4-E4B-it"),
    "gemma-4-26B-A4B-it": ("26B-A4B", "google/gemma-4-26B-A4B-it"),
    "gemma-4-31B-it": ("31B", "google/gemma-4-31B-it"),
    "gemma-4-31B-it-qat-q4_0-unquantized": (
        "31B",
        "google/gemma-4-31B-it-qat-q4_0-unquantized",
    ),
}
# Trained for other numbers than MLX computes with: the one thing to be said aloud.
ROUNDED = "activations that are rounded"


def dry_run(folder: Path) -> None:
    convert(str(folder), dry_run=True)


def told(err: str) -> list[str]:
    """The lines of stderr, but for files that these folders have not."""
    return [line for line in err.splitlines() if "The source has no " not in line]


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOAT)
def test_a_float_checkpoint_is_planned_in_silence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, repository = FLOAT[name]
    config, headers = real.read(repository), real.tensors(model)
    dry_run(real.write_headers(tmp_path / name, config, headers))
    out, err = capsys.readouterr()
    assert not told(err) and "bits, groups of" in out and "all weights" in out
    assert ("trained grid" in out) == ("q4_0" in name)
    unread = len(headers) - len(real.used_shapes(model))
    assert (f"Left out: {unread} tensors that no layer reads." in out) == (unread > 0)


@pytest.mark.parametrize(
    ("model", "left_out"),
    [
        ("E2B", "417 tensors: 316 shapes of packed weights, 100 that no layer reads"),
        pytest.param(
            "E4B",
            "470 tensors: 379 shapes of packed weights, 90 that no layer reads",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "31B",
            "411 tensors: 410 shapes of packed weights",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_compressed_tensors_are_planned(
    model: str, left_out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, headers = packed.compressed(model)
    assert sum(name.endswith("weight_packed") for name in headers) == int(
        left_out.split(": ")[1].split()[0]
    )
    dry_run(real.write_headers(tmp_path / "ct", config, headers))
    out, err = capsys.readouterr()
    assert not told(err) and "4 bits, groups of 32, trained grid" in out
    assert f"Left out: {left_out}, 1 of a tied head." in out
    table = "model.language_model.embed_tokens.weight"
    assert f"lm_head.weight repeats {table}. The values are not read yet" in out


@pytest.mark.parametrize(
    ("model", "clipped"),
    [
        ("E2B", True),
        pytest.param("E2B", False, marks=pytest.mark.slow),
        pytest.param("E4B", True, marks=pytest.mark.slow),
        pytest.param("E4B", False, marks=pytest.mark.slow),
    ],
)
def test_mobile_transformers_are_planned(
    model: str, clipped: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, headers = packed.mobile(model, clipped)
    # E2B's number of tensors is published.
    assert model != "E2B" or len(headers) == 2780
    dry_run(real.write_headers(tmp_path / "mobile", config, headers))
    out, err = capsys.readouterr()
    assert ROUNDED in err and len(told(err)) == 1
    layers = config["text_config"]["num_hidden_layers"]
    (line,) = [line for line in out.splitlines() if line.startswith("Left out")]
    assert f"{2 * layers} scales of the cache" in line
    scales = sum(name.endswith("put_activation_scale") for name in headers)
    assert f"{scales:,} scales of activations" in line
    assert ("hold no bounds: nothing is clipped" in out) == clipped
    for words in ("2 bits, groups of 128, trained grid", "8 bits, groups of"):
        assert words in out


@pytest.mark.slow
def test_a_conversion_is_not_converted_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = real.read("mlx-community/gemma-4-e2b-it-4bit")
    folder = real.write_headers(tmp_path / "mlx", config, real.mlx_4bit("E2B"))
    with pytest.raises(typer.Exit) as caught:
        dry_run(folder)
    assert caught.value.exit_code == 3
    assert "is quantised already. Convert the original" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("change", ["head", "key", "scheme"])
def test_what_changes_a_packed_checkpoint_is_named(
    change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, headers = packed.compressed("E2B")
    stated: dict[str, Any] = json.loads(json.dumps(config["quantization_config"]))
    config["quantization_config"] = stated
    if change == "head":
        headers["lm_head.weight"] = "F32", headers["lm_head.weight"][1]
    elif change == "scheme":
        stated["kv_cache_scheme"] = {"num_bits": 8}
        (group,) = stated["config_groups"].values()
        group["input_activations"] = {"num_bits": 8, "dynamic": True}
    else:
        stated["trick"] = 1
    folder = real.write_headers(tmp_path / "ct", config, headers)
    said = {"key": "quantization_config states trick", "scheme": ROUNDED}
    if change in said:
        dry_run(folder)
        err = capsys.readouterr().err
        assert said[change] in err and len(told(err)) == 1
        return
    with pytest.raises(typer.Exit) as caught:
        dry_run(folder)
    assert caught.value.exit_code == 3
    err = capsys.readouterr().err
    assert "lm_head.weight" in err and "embed_tokens.weight" in err
