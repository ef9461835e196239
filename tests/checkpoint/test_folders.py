"""Which files are the weights, and one message for each thing that is there instead."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny

from mlx_gemma4.chat.tokenizer import Tokenizer
from mlx_gemma4.checkpoint.files import INDEX, SINGLE, read_tensors
from mlx_gemma4.checkpoint.folders import weight_files
from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.config import Config, ConfigWarning
from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.hub.resolve import resolve

TOKENS = tiny.random_tokens(12, seed=3)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"


def shard(i: int, count: int, stem: str = "model") -> str:
    return f"{stem}-{i:05}-of-{count:05}.safetensors"


def renamed(folder: Path, count: int, first: int, stem: str) -> None:
    """The shards of a folder without their index, numbered from `first`."""
    (folder / INDEX).unlink()
    for i in range(1, count + 1):
        file = folder / shard(i, count)
        file.rename(folder / f"{i}.moved")
    for i in range(1, count + 1):
        (folder / f"{i}.moved").rename(folder / shard(i - 1 + first, count, stem))


@pytest.mark.parametrize(
    ("count", "first", "stem"),
    [(2, 1, "model"), (3, 0, "model"), (2, 1, "gemma"), (2, 1, "model.fp16")],
)
def test_a_numbered_set_needs_no_index(
    count: int, first: int, stem: str, tmp_path: Path
) -> None:
    tiny.write_checkpoint(tmp_path, "E2B", shards=count)
    renamed(tmp_path, count, first, stem)
    logits = tiny.logits(load_model(tmp_path), TOKENS)
    np.testing.assert_array_equal(logits, tiny.logits(tiny.build("E2B"), TOKENS))
    (tmp_path / shard(first + 1, count, stem)).unlink()
    lacking = shard(first + 1, count, stem).replace(".", r"\.")
    with pytest.raises(CheckpointError, match=f"lacks {lacking}.*`hf download"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        shard(1, 1),
        "weights.safetensors",
        "consolidated.safetensors",
        "pytorch_model.safetensors",
        "model.fp16.safetensors",
    ],
)
def test_one_file_of_another_name(name: str, tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, "E2B")
    (tmp_path / SINGLE).rename(tmp_path / name)
    assert weight_files(tmp_path) == [tmp_path / name]
    load_model(tmp_path)


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        ([SINGLE, "consolidated.safetensors"], [SINGLE]),
        ([SINGLE, "adapter_model.safetensors", "adapters.safetensors"], [SINGLE]),
        ([SINGLE, "optiq_vision.safetensors"], [SINGLE]),
        ([shard(1, 1), "other.safetensors"], [shard(1, 1)]),
        ([f"._{SINGLE}", SINGLE], [SINGLE]),
        (["._weights.safetensors", "weights.safetensors"], ["weights.safetensors"]),
        (["weights.safetensors", "consolidated.safetensors"], ["weights.safetensors"]),
    ],
)
def test_what_is_no_second_set(
    files: list[str], chosen: list[str], tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert weight_files(tmp_path) == [tmp_path / name for name in chosen]


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ([SINGLE, shard(1, 2), shard(2, 2)], (SINGLE, shard(1, 2))),
        ([SINGLE, "model.fp16.safetensors"], (SINGLE, "model.fp16.safetensors")),
        ([shard(1, 2), shard(2, 2), shard(1, 1)], (shard(1, 2), shard(1, 1))),
        (["a.safetensors", "b.safetensors"], ("a.safetensors", "b.safetensors")),
        (
            ["weights.0.safetensors", "weights.1.safetensors"],
            ("weights.0.safetensors", "weights.1.safetensors"),
        ),
    ],
)
def test_two_sets_are_ambiguous(
    files: list[str], named: tuple[str, str], tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match="more than one set of weights") as caught:
        weight_files(tmp_path)
    assert all(name in str(caught.value) for name in named)


def test_a_single_file_beside_an_index_of_others(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, "E2B", shards=2)
    (tmp_path / SINGLE).touch()
    with pytest.raises(CheckpointError, match=f"{SINGLE} and those of {INDEX}"):
        load_model(tmp_path)


def test_an_index_of_files_that_are_gone(tmp_path: Path) -> None:
    """The original's, beside the one file that the model was saved in again."""
    tiny.write_checkpoint(tmp_path, "E2B", shards=2)
    index = (tmp_path / INDEX).read_text()
    for file in weight_files(tmp_path):
        file.unlink()
    (tmp_path / INDEX).unlink()
    tiny.write_checkpoint(tmp_path, "E2B")
    (tmp_path / INDEX).write_text(index)
    assert weight_files(tmp_path) == [tmp_path / SINGLE]
    with pytest.warns(ConfigWarning, match=f"{INDEX} names files .* {SINGLE} is"):
        logits = tiny.logits(load_model(tmp_path), TOKENS)
    np.testing.assert_array_equal(logits, tiny.logits(tiny.build("E2B"), TOKENS))
    (tmp_path / shard(1, 2)).touch()
    with pytest.raises(CheckpointError, match="more than one set of weights"):
        weight_files(tmp_path)


@pytest.mark.parametrize("there", [shard(1, 2), "weights.safetensors"])
def test_an_index_of_a_file_that_is_gone(there: str, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": SINGLE}}))
    (tmp_path / "adapters.safetensors").touch()
    with pytest.raises(CheckpointError, match=f"lacks {SINGLE}"):
        weight_files(tmp_path)
    (tmp_path / there).touch()
    match = f"{INDEX} is of other files .* names {SINGLE}, but there is {there}"
    with pytest.raises(CheckpointError, match=match):
        weight_files(tmp_path)


def test_an_index_that_disagrees_with_the_files(tmp_path: Path) -> None:
    """A tensor in another file is an error; one more than the index says is none."""
    tiny.write_checkpoint(tmp_path, "E2B", shards=2)
    index = json.loads((tmp_path / INDEX).read_text())
    places = index["weight_map"]
    name, other = sorted(places)[0], shard(2, 2)
    places[name] = other
    (tmp_path / INDEX).write_text(json.dumps(index))
    match = rf"not there: {name} \(in {other}\).*download all of them again"
    with pytest.raises(CheckpointError, match=match):
        load_model(tmp_path)
    del places[name]
    (tmp_path / INDEX).write_text(json.dumps(index))
    load_model(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["adapter_config.json", "adapter_model.safetensors"],
            "holds an adapter.*--ad",
        ),
        (["adapter_config.json", "0000100_adapters.safetensors"], "holds an adapter"),
        (["gemma-4-E2B-it-Q4_0.gguf"], "only as gemma-4-E2B-it-Q4_0.gguf, llama.cpp"),
        (["pytorch_model-00001-of-00002.bin"], "can run code"),
        (["model.safetensors.incomplete"], "has not ended.*`hf download"),
        ([".cache/huggingface/download/a.incomplete"], "has not ended"),
        (["model.safetensors.aria2"], "has not ended"),
    ],
)
@pytest.mark.parametrize("configured", [False, True])
def test_what_is_there_instead(
    files: list[str], message: str, configured: bool, tmp_path: Path
) -> None:
    """With and without config.json; both ways the command line asks."""
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    if configured:
        (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=message) as caught:
        read_tensors(resolve(tmp_path))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no config.json.*`hf download"):
        resolve(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="has no weights.*`hf download"):
        read_tensors(resolve(tmp_path))


def test_the_command_for_an_entry_of_the_hub_cache(tmp_path: Path) -> None:
    folder = tmp_path / "models--google--gemma-4-E2B-it" / "snapshots" / "0"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="`hf download google/gemma-4-E2B-it`"):
        read_tensors(folder)


@pytest.mark.parametrize("name", [SINGLE, "tokenizer.json", "config.json"])
def test_a_clone_without_git_lfs(name: str, tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, "E2B", tokenizer=True)
    (tmp_path / name).write_bytes(POINTER)
    with pytest.raises(CheckpointError, match=rf"{name} is a Git LFS .*`git lfs pull`"):
        read_tensors(tmp_path)
        Tokenizer(tmp_path)
        Config.from_file(tmp_path / "config.json")


def test_a_file_of_no_bytes(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, "E2B", shards=2)
    (tmp_path / shard(2, 2)).write_bytes(b"")
    match = f"{shard(2, 2)} is truncated.* 0 bytes. Download it again"
    with pytest.raises(CheckpointError, match=match):
        load_model(tmp_path)
