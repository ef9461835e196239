"""Damaged and malicious weight files, each with an error of its own."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
import tiny

from mlx_gemma4.checkpoint.files import INDEX, SINGLE, read_header, read_tensors
from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.errors import CheckpointError


def write(path: Path, header: Any, data: bytes = b"") -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)
    return path


def entry(dtype: Any = "F32", shape: Any = (2,), begin: Any = 0, end: Any = 8) -> Any:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_a_sound_header(tmp_path: Path) -> None:
    tensors = {"a": mx.ones((3, 2), mx.bfloat16), "b": mx.array(1), "c": mx.zeros((0,))}
    mx.save_safetensors(str(tmp_path / "x.safetensors"), tensors, {"format": "mlx"})
    header = read_header(tmp_path / "x.safetensors")
    assert {n: (t.dtype, t.shape) for n, t in header.items()} == {
        "a": ("BF16", (3, 2)),
        "b": ("I32", ()),
        "c": ("F32", (0,)),
    }


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (b"{", b"", "header is not valid JSON"),
        (b"\xff\xfe", b"", "header is not valid JSON"),
        (b"[" * 100_000, b"", "header is not valid JSON"),
        ([], b"", "header is not valid JSON"),
        ({"a": entry()}, bytes(7), "truncated: 7 of 8 bytes"),
        ({"a": entry()}, bytes(9), "1 bytes too many"),
        ({"a": entry("F13")}, bytes(8), "unknown type 'F13'"),
        ({"a": entry([])}, bytes(8), "unknown type"),
        ({"a": entry(shape=(3,))}, bytes(8), r"has 8 bytes for F32 \(3,\)"),
        ({"a": entry(shape=(-2, -1))}, bytes(8), "entry for a is malformed"),
        ({"a": entry(shape="2")}, bytes(8), "entry for a is malformed"),
        ({"a": entry(begin=-8, end=0)}, bytes(8), "entry for a is malformed"),
        ({"a": entry(end="8")}, bytes(8), "entry for a is malformed"),
        ({"a": {"dtype": "F32"}}, bytes(8), "entry for a is malformed"),
        ({"a": 3}, bytes(8), "entry for a is malformed"),
        ({"a": entry(), "b": entry()}, bytes(8), "overlap or gape"),
        ({"a": entry(begin=8, end=16)}, bytes(16), "overlap or gape"),
    ],
)
def test_malformed_headers(
    header: Any, data: bytes, message: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "x.safetensors", header, data)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_header(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated or no safetensors file"),
        (b"PK\x03\x04" * 9, "truncated or no safetensors file"),
        (struct.pack("<Q", 2**63) + b"{}", "truncated or no safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_files_that_are_no_safetensors(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / SINGLE).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_tensors(tmp_path)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_checkpoint(kept: int, tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, "E2B")
    file = tmp_path / SINGLE
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=f"{SINGLE} is truncated"):
        load_model(tmp_path)


def test_a_missing_shard(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, "E2B", shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match="lacks model-00002-of-00003.safetens"):
        load_model(tmp_path)


def test_a_shard_without_the_tensors_promised(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, "E2B", shards=2)
    one, two = (tmp_path / f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    with pytest.raises(CheckpointError, match="both hold .* and [0-9]+ more"):
        load_model(tmp_path)
    two.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"names tensors that are not there: \S+ "
    ):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "holds no JSON object"),
        ("[" * 200_000, "nests too deeply"),
        ("{}", "has no weight_map"),
        ('{"weight_map": {}}', "has no weight_map"),
        ('{"weight_map": {"a": 3}}', "names no file for a"),
        ('{"weight_map": {"a": "../x.safetensors"}}', "leads out of"),
        ('{"weight_map": {"a": "sub/../../x.safetensors"}}', "leads out of"),
        ('{"weight_map": {"a": "sub/../x.safetensors"}}', "leads out of"),
        ('{"weight_map": {"a": "/etc/x.safetensors"}}', "leads out of"),
        ('{"weight_map": {"a": "C:\\\\x.safetensors"}}', "leads out of"),
        ('{"weight_map": {"a": "pytorch_model.bin"}}', "must be .safetensors"),
        ('{"weight_map": {"a": "x.safetensors"}}', "lacks x.safetensors"),
    ],
)
def test_malformed_indices(index: str, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "x.safetensors").write_bytes(b"outside")
    (folder / INDEX).write_text(index)
    with pytest.raises(CheckpointError, match=message):
        read_tensors(folder)


@pytest.mark.parametrize("name", ["n" * 5000, "\udcff", "loop"])
def test_names_that_lead_nowhere(name: str, tmp_path: Path) -> None:
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    index = {"weight_map": {"a": f"{name}.safetensors"}}
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(
        CheckpointError, match="leads out of|is of other files|5012 characters"
    ):
        read_tensors(tmp_path)


def test_links_that_leave_the_folder(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path / "other", "E2B")
    tiny.write_checkpoint(tmp_path / "model", "E2B")
    link = tmp_path / "model" / SINGLE
    link.unlink()
    link.symlink_to(tmp_path / "other" / SINGLE)
    with pytest.raises(CheckpointError, match="'model.safetensors' leads out"):
        load_model(tmp_path / "model")
    link.unlink()
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="'model.safetensors' leads out"):
        load_model(tmp_path / "model")


def hub_cache(root: Path, shards: int) -> Path:
    """A snapshot as the Hub's cache has it: every file a link to a blob."""
    entry = root / "models--org--name"
    snapshot, blobs = entry / "snapshots" / ("0" * 40), entry / "blobs"
    tiny.write_checkpoint(snapshot, "E2B", shards=shards)
    blobs.mkdir()
    for i, file in enumerate(sorted(snapshot.iterdir())):
        file.rename(blobs / f"{i:064}")
        file.symlink_to(os.path.relpath(blobs / f"{i:064}", snapshot))
    return snapshot


@pytest.mark.parametrize("shards", [1, 2])
def test_links_of_the_hub_cache_are_followed(shards: int, tmp_path: Path) -> None:
    snapshot = hub_cache(tmp_path, shards)
    assert load_model(snapshot).config.model_type == "gemma4"
    shard = next(file for file in snapshot.iterdir() if "safetensors" in file.suffix)
    shard.unlink()
    shard.symlink_to("../../refs")  # beside the blobs, not one of them
    with pytest.raises(CheckpointError, match="leads out of"):
        load_model(snapshot)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "has no weights"),
        (["pytorch_model.bin"], "only as pytorch_model.bin.*can run code"),
        (["a.pt", "b.pth", "c.ckpt"], "only as a.pt, b.pth, c.ckpt.*can run code"),
        (["model-00001-of-00002.safetensors"], "lacks model-00002-of-00002.safet"),
    ],
)
def test_folders_without_weights(
    files: list[str], message: str, tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=message):
        read_tensors(tmp_path)
