"""Refinement through mlx-lm: closer on held-out text or not at all, never on a grid."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import pytest
import tiny
import tiny_media
from jobs import converted, tensors

from mlx_gemma4.convert import check, refine
from mlx_gemma4.errors import CheckpointError

# One text over and over: what is learnt on some helps on those held out.
TOKENS = [tiny.random_tokens(24, seed=0)] * 8
FAST = 1e-4


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refine") / "source"
    tiny.write_checkpoint(folder, "demo", dtype=mx.bfloat16, tokenizer=True)
    return folder


@pytest.fixture(scope="module")
def plain(source: Path) -> Path:
    return converted(source, source.with_name("plain"), "2bit")


@pytest.fixture
def folder(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "folder"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_refinement_brings_held_out_text_closer(
    source: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = mx.load(str(folder / "model.safetensors"))
    assert isinstance(before, dict)
    mx.eval(before)
    result = refine.refine_dwq(
        source, folder, tokens=TOKENS, learning_rate=FAST, batch_size=2
    )
    assert capfd.readouterr().out == ""
    assert result.kept and result.after.kl_mean < result.before.kl_mean
    held_out = TOKENS[:: refine.HELD_OUT]
    assert check.compare(source, folder, tokens=held_out) == result.after
    check.verify(folder)
    after = mx.load(str(folder / "model.safetensors"))
    assert isinstance(after, dict) and after.keys() == before.keys()
    changed = {n for n in before if not mx.array_equal(before[n], after[n])}
    assert all(name.endswith((".scales", ".biases")) for name in changed)
    assert any("switch_glu.up_proj" in name for name in changed)
    assert all(before[n].dtype == after[n].dtype for n in before)
    record = json.loads((folder / "conversion.json").read_text())
    assert record["refined"] == {"method": "dwq", "sequences": 6}
    assert f"{result.after.kl_mean:.5f}" in (folder / "README.md").read_text()
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


@pytest.mark.slow
def test_a_model_with_towers_is_refined(tmp_path: Path) -> None:
    """Only scales of the decoder move: what the towers hold stays as it is."""
    source = tmp_path / "source"
    tiny_media.write_checkpoint(source, hidden_size=64, intermediate_size=128)
    folder = converted(source, tmp_path / "out", "2bit")
    before = tensors(folder)
    mx.eval(before)
    result = refine.refine_dwq(
        source, folder, tokens=TOKENS, learning_rate=FAST, batch_size=2
    )
    assert result.kept and result.after.kl_mean < result.before.kl_mean
    after = tensors(folder)
    changed = {n for n in before if not mx.array_equal(before[n], after[n])}
    assert changed and before.keys() == after.keys()
    assert all(name.endswith((".scales", ".biases")) for name in changed)


@pytest.mark.slow
def test_a_refinement_that_does_not_help_is_dropped(source: Path, folder: Path) -> None:
    before = contents(folder)
    result = refine.refine_dwq(
        source, folder, tokens=TOKENS, learning_rate=1.0, batch_size=2
    )
    assert not result.kept and result.after.kl_mean >= result.before.kl_mean
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


@pytest.mark.parametrize("named", [False, True])
def test_a_kill_between_the_two_renames_is_settled(named: bool, folder: Path) -> None:
    before = contents(folder)
    old = folder.with_name("folder.unrefined")
    if named:
        shutil.copytree(folder, old)
    else:
        folder.rename(old)
    refine.finish_refining(folder)
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


@pytest.mark.parametrize("mark", ["qat", "grid"])
def test_a_trained_grid_is_refused(source: Path, folder: Path, mark: str) -> None:
    path = folder / "conversion.json"
    record = json.loads(path.read_text())
    if mark == "qat":
        record["qat"] = "mobile"
    else:
        record["classes"][-1]["grid"] = "q4_0"
    path.write_text(json.dumps(record))
    before = contents(folder)
    with pytest.raises(CheckpointError, match="refused"):
        refine.refine_dwq(source, folder, tokens=TOKENS)
    assert contents(folder) == before


def test_a_folder_of_another_converter_is_refused(source: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no conversion\.json"):
        refine.refine_dwq(source, source, tokens=TOKENS)


def test_too_little_text_is_refused(source: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match="give more text"):
        refine.refine_dwq(source, folder, tokens=TOKENS[:3], batch_size=4)
