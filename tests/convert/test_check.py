"""Fidelity against numpy's own arithmetic, and damage of every kind found and named."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest
import tiny
from jobs import converted

from mlx_gemma4.convert import check
from mlx_gemma4.convert.errors import OutputError
from mlx_gemma4.convert.sample import TEXTS
from mlx_gemma4.errors import CheckpointError

TOKENS = [tiny.random_tokens(n, seed=n) for n in (2, 5, 33, 90)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    tiny.write_checkpoint(folder, "demo", dtype=mx.bfloat16, tokenizer=True)
    return folder


@pytest.fixture
def folder(source: Path, tmp_path: Path) -> Path:
    return converted(source, tmp_path / "converted")


def predicted(folder: Path) -> list[np.ndarray]:
    """float64 logarithms of probabilities [L - 1, vocab] of each sequence."""
    model = check.load_model(folder)
    found = []
    for tokens in TOKENS:
        logits = tiny.logits(model, tokens)[:-1].astype(np.float64)
        found.append(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("rows", [3, 64])
def test_fidelity_is_what_its_definition_says(
    source: Path, folder: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "ROWS", rows)
    fidelity = check.compare(source, folder, tokens=TOKENS)
    p, q = (np.concatenate(predicted(place)) for place in (source, folder))
    following = np.concatenate([tokens[1:] for tokens in TOKENS])
    kl = (np.exp(p) * (p - q)).sum(-1)
    at = np.arange(len(following))
    assert fidelity.tokens == len(following) == 126
    assert fidelity.kl_mean == pytest.approx(kl.mean(), rel=1e-3)
    assert fidelity.kl_median == pytest.approx(np.median(kl), rel=1e-3)
    assert fidelity.kl_p99 == pytest.approx(np.quantile(kl, 0.99), rel=1e-3)
    assert fidelity.kl_max == pytest.approx(kl.max(), rel=1e-3)
    assert fidelity.kl_mean > 1e-5
    assert fidelity.top1 == pytest.approx((p.argmax(-1) == q.argmax(-1)).mean())
    perplexities = [math.exp(-logs[at, following].mean()) for logs in (p, q)]
    assert fidelity.perplexity_source == pytest.approx(perplexities[0], rel=1e-4)
    assert fidelity.perplexity_converted == pytest.approx(perplexities[1], rel=1e-4)


def test_a_model_is_itself(source: Path) -> None:
    fidelity = check.compare(source, source, tokens=TOKENS)
    assert fidelity.kl_max == 0 and fidelity.top1 == 1
    assert fidelity.perplexity_source == fidelity.perplexity_converted


@pytest.mark.slow
def test_fewer_bits_are_further_away(source: Path, tmp_path: Path) -> None:
    means = [
        check.compare(
            source, converted(source, tmp_path / recipe, recipe), tokens=TOKENS
        ).kl_mean
        for recipe in ("bf16", "8bit", "4bit", "2bit")
    ]
    assert means == sorted(means) and means[0] == 0


@pytest.mark.slow
def test_the_sample_text_is_used_where_none_is_given(
    source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tuple(text[:20] for text in TEXTS[:2])
    monkeypatch.setattr(check, "TEXTS", short)
    counted: list[int] = []
    fidelity = check.compare(source, folder, advance=counted.append)
    wanted = sum(len(tokens) - 1 for tokens in check.encoded(source, short))
    assert fidelity.tokens == wanted > 10
    assert sum(counted) == 2 * wanted  # by each model once
    assert fidelity == check.compare(source, folder, short)


def test_texts_begin_as_texts_do(source: Path) -> None:
    assert all(tokens[0] == 2 for tokens in check.encoded(source, TEXTS))


def test_too_little_text(source: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match="two tokens"):
        check.compare(source, folder, tokens=[[2]])


@pytest.mark.slow
def test_another_vocabulary_is_refused(folder: Path, tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path / "other", "demo")
    with pytest.raises(CheckpointError, match="not the same model"):
        check.compare(tmp_path / "other", folder, tokens=TOKENS)


def test_no_room_for_predictions_is_said_before_any_are_made(
    source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=4 * 1920 * 125)
    monkeypatch.setattr(check.shutil, "disk_usage", lambda place: usage)
    monkeypatch.setattr(check, "load_model", None)
    with pytest.raises(OutputError, match="set TMPDIR"):
        check.compare(source, folder, tokens=TOKENS)


@pytest.mark.slow
def test_the_numbers_are_json(source: Path, folder: Path) -> None:
    fidelity = check.compare(source, folder, tokens=TOKENS)
    assert check.Fidelity(**json.loads(json.dumps(fidelity.as_dict()))) == fidelity


def test_a_whole_folder_is_verified(folder: Path) -> None:
    read: list[int] = []
    found = check.verify(folder, read.append)
    record = json.loads((folder / "conversion.json").read_text())
    assert found.files == len(record["files"]) > 3
    assert found.bytes == sum(read) == sum(f["bytes"] for f in record["files"].values())
    assert found.tensors > 100


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_changed_byte_is_found(folder: Path, name: str) -> None:
    path = folder / name
    data = bytearray(path.read_bytes())
    # A byte of a tensor, or white space that changes nothing but the checksum.
    if name == "model.safetensors":
        data[-5] ^= 1
    else:
        data += b" "
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{name} has changed"):
        check.verify(folder)


def test_a_missing_file_is_found(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json is missing"):
        check.verify(folder)


def test_a_truncated_file_is_found(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated"):
        check.verify(folder)


DAMAGED = ["{", "[]", "{}", '{"files": {}}', '{"files": 3}', "[" * 100_000]
ELSEWHERE = ['{"files": {"/etc/passwd": {}}}', '{"files": {"../x": {}}}']


@pytest.mark.slow
@pytest.mark.parametrize("text", [*DAMAGED, *ELSEWHERE, '{"files": {"a\\u0000": {}}}'])
def test_a_damaged_record_is_named(folder: Path, text: str) -> None:
    (folder / "conversion.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"conversion\.json is damaged"):
        check.verify(folder)


@pytest.mark.slow
def test_a_folder_of_another_converter_has_no_checksums(folder: Path) -> None:
    (folder / "conversion.json").unlink()
    read: list[int] = []
    found = check.verify(folder, read.append)
    assert found.files == 0
    assert found.tensors > 100
    weights = (folder / "model.safetensors").stat().st_size
    assert found.bytes == sum(read) == weights


def test_bad_values_of_another_converter_are_found(folder: Path) -> None:
    name = "language_model.model.norm.weight"
    rewrite(folder, {name: mx.full((32,), math.nan, mx.bfloat16)})
    (folder / "conversion.json").unlink()
    with pytest.raises(CheckpointError, match=f"{name} .*NaN or infinite"):
        check.verify(folder)


def rewrite(folder: Path, change: dict[str, mx.array]) -> None:
    """Changes tensors and records the new checksums, as a bad conversion would."""
    path = folder / "model.safetensors"
    tensors = mx.load(str(path))
    assert isinstance(tensors, dict)
    mx.eval(tensors)
    mx.save_safetensors(str(path), tensors | change, {"format": "mlx"})
    record = json.loads((folder / "conversion.json").read_text())
    record["files"]["model.safetensors"] = check.digest(path)
    (folder / "conversion.json").write_text(json.dumps(record))


@pytest.mark.slow
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_found(folder: Path, value: float) -> None:
    name = "language_model.model.embed_tokens.scales"
    tensors = mx.load(str(folder / "model.safetensors"))
    assert isinstance(tensors, dict)
    scales = tensors[name]
    scales[3, 0] = value
    rewrite(folder, {name: scales})
    with pytest.raises(CheckpointError, match=f"{name} .*NaN or infinite"):
        check.verify(folder)


@pytest.mark.slow
def test_a_wrong_shape_is_found(folder: Path) -> None:
    name = "language_model.model.norm.weight"
    rewrite(folder, {name: mx.ones((3,), mx.bfloat16)})
    with pytest.raises(CheckpointError, match=r"norm.weight has 3: shape \(3,\)"):
        check.verify(folder)


def test_a_file_without_a_checksum_is_found(folder: Path) -> None:
    record = json.loads((folder / "conversion.json").read_text())
    del record["files"]["model.safetensors"]
    (folder / "conversion.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=r"no checksum of model\.safetensors"):
        check.verify(folder)
