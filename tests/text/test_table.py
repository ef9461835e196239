"""Rows of a table on disk: as an embedding in memory has them, and no others."""

import copy
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlx_gemma4.checkpoint.files import read_header
from mlx_gemma4.checkpoint.plan import STORED
from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.text import table
from mlx_gemma4.text.rows import Packed, Part
from mlx_gemma4.text.table import Layout, RowTable

ROWS, COLUMNS = 40, 128
IDS = mx.array([[5, 39, 0], [5, 5, 17]])
KINDS = {**STORED, "U32": mx.uint32, "U8": mx.uint8}


def written(
    folder: Path, dtype: mx.Dtype = mx.float32, packed: Packed | None = None, **arrays
) -> Layout:
    """A file for each array, with something before the rows."""
    parts: list[Part] = []
    for name, array in arrays.items():
        file = folder / f"{name}.safetensors"
        before = mx.arange(5, dtype=mx.uint8)
        mx.save_safetensors(str(file), {"another": before, name: array})
        stored = read_header(file)[name]
        kind, columns = KINDS[stored.dtype], stored.shape[1]
        parts.append(Part(name, file, stored.offset, kind, columns))
    return Layout(ROWS, parts, packed, dtype, pad=3, media=frozenset({60, 61}))


@pytest.fixture
def weight() -> mx.array:
    return mx.random.normal((ROWS, COLUMNS), key=mx.random.key(1))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where rows are read, of the places in files."""
    places: list[int] = []
    pread = os.pread

    def counted(file: int, size: int, place: int) -> bytes:
        places.append(place)
        return pread(file, size, place)

    monkeypatch.setattr(os, "pread", counted)
    return places


@pytest.mark.parametrize("stored", STORED.values(), ids=str)
@pytest.mark.parametrize("dtype", STORED.values(), ids=str)
def test_plain_rows(
    weight: mx.array, stored: mx.Dtype, dtype: mx.Dtype, tmp_path: Path
) -> None:
    weight = weight.astype(stored)
    found = RowTable(written(tmp_path, dtype, weight=weight))(IDS)
    expected = weight.astype(dtype)[IDS]
    assert found.dtype == dtype and found.shape == (2, 3, COLUMNS)
    assert mx.array_equal(found, expected)


PACKINGS: dict[str, dict[str, Any]] = {
    **{f"{b} bits": {"group_size": 64, "bits": b} for b in (2, 3, 4, 5, 6, 8)},
    "groups of 32": {"group_size": 32, "bits": 4},
    "mxfp4": {"group_size": 32, "bits": 4, "mode": "mxfp4"},
    "mxfp8": {"group_size": 32, "bits": 8, "mode": "mxfp8"},
    "nvfp4": {"group_size": 16, "bits": 4, "mode": "nvfp4"},
}


@pytest.mark.parametrize("how", PACKINGS)
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=str)
def test_packed_rows(
    weight: mx.array, how: str, dtype: mx.Dtype, tmp_path: Path
) -> None:
    settings = PACKINGS[how]
    parts = mx.quantize(weight.astype(mx.bfloat16), **settings)
    named = dict(zip(("weight", "scales", "biases"), parts, strict=False))
    packed = Packed(**{"mode": "affine", **settings})
    found = RowTable(written(tmp_path, dtype, packed, **named))(IDS)
    loaded = [
        p.astype(dtype) if mx.issubdtype(p.dtype, mx.floating) else p for p in parts
    ]
    expected = mx.dequantize(*(p[IDS] for p in loaded), **settings, dtype=dtype)
    assert found.dtype == dtype and mx.array_equal(found, expected)


def test_as_an_embedding_of_mlx(weight: mx.array, tmp_path: Path) -> None:
    embedding = nn.Embedding(ROWS, COLUMNS)
    embedding.weight = weight
    module = embedding.to_quantized(64, 4)
    named = {name: module[name] for name in ("weight", "scales", "biases")}
    found = RowTable(written(tmp_path, packed=Packed(64, 4, "affine"), **named))
    assert mx.array_equal(found(IDS), module(IDS))


def test_media_have_the_row_of_pad(weight: mx.array, tmp_path: Path) -> None:
    found = RowTable(written(tmp_path, weight=weight))
    assert mx.array_equal(found(mx.array([60, 7, 61])), weight[mx.array([3, 7, 3])])


@pytest.mark.parametrize("token", [-1, ROWS, 62])
def test_an_id_without_a_row(token: int, weight: mx.array, tmp_path: Path) -> None:
    found = RowTable(written(tmp_path, weight=weight))
    with pytest.raises(ValueError, match=r"Token ids .* has rows for 0 to 39\."):
        found(mx.array([1, token]))


def test_what_was_read_is_kept(
    weight: mx.array, reads: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "KEPT_BYTES", 3 * COLUMNS * 4)
    found = RowTable(written(tmp_path, weight=weight))
    for token, count in ((1, 1), (2, 2), (3, 3), (1, 3), (4, 4), (1, 4), (2, 5)):
        assert mx.array_equal(found(mx.array([token]))[0], weight[token])
        assert len(reads) == count  # the one that was not used for longest went


def test_what_is_read_ahead_is_not_read_again(
    weight: mx.array, reads: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "KEPT_BYTES", 0)
    monkeypatch.setattr(table, "FEW", 4)
    found = RowTable(written(tmp_path, weight=weight))
    tokens = mx.arange(30) % 25
    found.prefetch([*range(20), 60])
    assert mx.array_equal(found(tokens), weight[tokens])
    assert len(reads) == 25
    found.prefetch([1])  # and another prompt comes
    assert mx.array_equal(found(mx.array([2])), weight[2:3])


def test_a_copy_reads_for_itself(weight: mx.array, tmp_path: Path) -> None:
    found = RowTable(written(tmp_path, weight=weight))
    other = copy.deepcopy(found)
    del found
    assert mx.array_equal(other(IDS), weight[IDS])
    assert other.nbytes == ROWS * COLUMNS * 4


@pytest.mark.parametrize("stored", STORED.values(), ids=str)
@pytest.mark.parametrize("value", [mx.nan, mx.inf, -mx.inf])
def test_values_that_are_none(
    weight: mx.array, stored: mx.Dtype, value: float, tmp_path: Path
) -> None:
    weight = weight.astype(stored)
    weight[9, 77] = value
    found = RowTable(written(tmp_path, weight=weight))
    assert mx.array_equal(found(IDS), weight[IDS].astype(mx.float32))
    with pytest.raises(CheckpointError, match="values in row 9 of weight: the check"):
        found(mx.array([9]))


def test_huge_values(weight: mx.array, tmp_path: Path) -> None:
    weight[2, 5], weight[3, 5] = 3e38, 65519.0
    layout = written(tmp_path, weight=weight)
    assert RowTable(layout)(mx.array([2]))[0, 5].item() == pytest.approx(3e38)
    half = RowTable(replace(layout, dtype=mx.float16))
    assert half(mx.array([3]))[0, 5].item() == 65504
    with pytest.raises(CheckpointError, match="do not fit into float16"):
        half(mx.array([2]))


def test_scales_that_are_none(weight: mx.array, tmp_path: Path) -> None:
    for mode, bits, group, nan in (("mxfp4", 4, 32, 0xFF), ("nvfp4", 4, 16, 0x7F)):
        packed, scales = mx.quantize(weight, group, bits, mode)
        scales[4, 1] = nan
        how = Packed(group, bits, mode)
        found = RowTable(written(tmp_path, packed=how, weight=packed, scales=scales))
        assert np.isfinite(np.array(found(mx.array([5])))).all()
        with pytest.raises(CheckpointError, match="values in row 4 of scales"):
            found(mx.array([4]))


def test_files_that_change(weight: mx.array, tmp_path: Path) -> None:
    found = RowTable(layout := written(tmp_path, weight=weight))
    file = layout.parts[0].file
    found(mx.array([1]))
    os.truncate(file, layout.parts[0].offset + 8 * COLUMNS * 4)
    assert mx.array_equal(found(mx.array([1])), weight[1:2])  # it is kept
    with pytest.raises(CheckpointError, match=r"weight.safetensors was changed after"):
        found(mx.array([2]))
    found.prefetch([2])
    with pytest.raises(CheckpointError, match="load the model again"):
        found(mx.array([2]))


def test_files_that_go(weight: mx.array, tmp_path: Path) -> None:
    found = RowTable(layout := written(tmp_path, weight=weight))
    file = layout.parts[0].file
    file.unlink()
    assert mx.array_equal(found(IDS), weight[IDS])
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        RowTable(layout)


def test_a_disk_that_fails(
    weight: mx.array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = RowTable(written(tmp_path, weight=weight))

    def fails(*_: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fails)
    with pytest.raises(CheckpointError, match="cannot be read: Input/output error"):
        found(IDS)
