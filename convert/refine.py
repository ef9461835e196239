"""Refinement of a conversion by training its scales: mlx-lm's DWQ.

The codes stay; the scales and biases of all affine weights below 8 bits are moved by
gradient descent until the converted model predicts what its source predicts. The
result is kept only if it is closer to the source on text that was not trained on.

Weights on a grid they were trained for are refused: moving their scales leaves it.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optimizers
from mlx.utils import tree_flatten

from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.checkpoint.names import Place
from mlx_gemma4.checkpoint.plan import plan_load, read_headers
from mlx_gemma4.config import Config
from mlx_gemma4.errors import CheckpointError, DataError
from mlx_gemma4.model import Gemma4
from mlx_gemma4.prompt.vocabulary import check_tokens
from mlx_gemma4.state import sync

from .card import RECORD, write_card
from .check import Fidelity, compare, digest, encoded
from .data import LONGEST as LENGTH
from .sample import TEXTS
from .writer import explained

LEARNING_RATE = 1e-6  # mlx-lm's default
HELD_OUT = 4  # every fourth sequence is for validation
SEED = 123


@dataclass(frozen=True)
class Refined:
    """Fidelity on held-out text before and after; `kept`: whether the files changed."""

    before: Fidelity
    after: Fidelity
    kept: bool


def refine_dwq(
    source: Path,
    folder: Path,
    texts: Sequence[str] | None = None,
    *,
    tokens: Sequence[Sequence[int]] | None = None,
    learning_rate: float = LEARNING_RATE,
    batch_size: int = 1,
) -> Refined:
    """Trains the scales of the conversion `folder` towards its `source`.

    texts: to train on, a quarter held out; None takes this package's short sample.
    tokens: sequences to use instead of texts.

    The folder is replaced as a whole when all is done. Raises CheckpointError for a
    QAT grid and for a folder that was not made by this converter.
    """
    finish_refining(folder)
    record = _record(folder)
    _refuse_grids(record)
    if tokens is None:
        tokens = encoded(source, TEXTS if texts is None else texts)
    pieces = [
        list(sequence[start : start + LENGTH + 1])
        for sequence in tokens
        for start in range(0, len(sequence) - 1, LENGTH)
    ]
    check_tokens(pieces, Config.from_file(source / "config.json"))
    valid = pieces[::HELD_OUT]
    train = [piece for i, piece in enumerate(pieces) if i % HELD_OUT]
    if min(len(valid), len(train)) < batch_size:
        raise DataError(
            f"{len(pieces)} sequences are too few to train on: give more text."
        )
    before = compare(source, folder, tokens=valid)
    work = folder.with_name(folder.name + ".refined")
    shutil.rmtree(work, ignore_errors=True)
    try:
        trained = _trained(source, folder, train, valid, learning_rate, batch_size)
        with explained(work):
            _write(folder, work, trained)
        after = compare(source, work, tokens=valid)
        kept = after.kl_mean < before.kl_mean
        if kept:
            with explained(work):
                _take_place(work, folder, record, len(train), after)
        return Refined(before, after, kept)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def finish_refining(folder: Path) -> None:
    """Ends what a refinement left that was killed while it changed the folder."""
    old = _unrefined(folder)
    if old.is_dir():
        shutil.rmtree(old) if folder.is_dir() else os.replace(old, folder)


def is_refined(folder: Path) -> bool:
    """Whether a conversion was refined already. Raises CheckpointError."""
    return "refined" in _record(folder)


def _unrefined(folder: Path) -> Path:
    return folder.with_name(folder.name + ".unrefined")


def _record(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise CheckpointError(
            f"{folder} has no {RECORD}: only conversions by `gemma4 convert` can be "
            "refined."
        ) from None


def _refuse_grids(record: Mapping[str, Any]) -> None:
    if record.get("qat") or any(line.get("grid") for line in record["classes"]):
        raise CheckpointError(
            "This model was trained for the grid its weights are on. Refinement would "
            "move them off it, so it is refused."
        )


def _trained(
    source: Path,
    folder: Path,
    train: list[list[int]],
    valid: list[list[int]],
    learning_rate: float,
    batch_size: int,
) -> dict[str, mx.array]:
    """Names of tensors in the files of `folder` -> their trained values."""
    # mlx_lm's trainer loads transformers: only who refines pays for that.
    from mlx_lm.quant.dwq import compute_dwq_targets, dwq_quantize

    training, validation = ([(piece, 0) for piece in x] for x in (train, valid))
    longest = LENGTH + 1
    with tempfile.TemporaryDirectory() as place, redirect_stdout(sys.stderr):
        targets = Path(place)
        teacher = load_model(source)
        compute_dwq_targets(
            teacher, targets, training, validation, batch_size, longest, SEED
        )
        del teacher
        mx.clear_cache()

        def target(batch: mx.array, index: int, split: str) -> tuple[mx.array, ...]:
            stored = mx.load(str(targets / split / f"{index:010d}.safetensors"))
            assert isinstance(stored, dict)
            return stored["logits"], stored["indices"]

        student = load_model(folder)
        student.freeze()  # DWQ thaws the scales alone
        dwq_quantize(
            student,
            target,
            optimizers.Adam(learning_rate=learning_rate, bias_correction=True),
            training,
            validation,
            batch_size,
            longest,
            SEED,
            dtype=student.language_model.norm.weight.dtype,
        )
    return _by_file_name(folder, student)


def _by_file_name(folder: Path, student: Gemma4) -> dict[str, mx.array]:
    """Trained scales and biases as the files name and divide them."""
    fit = plan_load(student.config, read_headers(folder)[1]).fit
    found: dict[str, mx.array] = {}
    trained: dict[str, Any] = dict(tree_flatten(student.trainable_parameters()))
    for parameter, array in trained.items():
        places, names = zip(*fit.sources[parameter], strict=True)
        found |= zip(names, _pieces(array, places), strict=True)
    return found


def _pieces(array: mx.array, places: Sequence[Place]) -> list[mx.array]:
    """The parts of a parameter that lie in the files: gate and up, or all of it."""
    if len(places) == 1:
        return [array]
    if any(place.expert is not None for place in places):
        raise CheckpointError("Experts stored one by one are not refined.")
    return list(mx.split(array, len(places), axis=-2))


def _write(folder: Path, work: Path, trained: Mapping[str, mx.array]) -> None:
    """A copy of `folder` with the trained tensors. Other files are linked."""
    work.mkdir()
    for path in folder.iterdir():
        if path.suffix != ".safetensors":
            shutil.copyfile(path, work / path.name)
            continue
        arrays = mx.load(str(path), format="safetensors")
        assert isinstance(arrays, dict)
        for name in arrays.keys() & trained.keys():
            arrays[name] = trained[name].astype(arrays[name].dtype)
        mx.save_safetensors(str(work / path.name), arrays, {"format": "mlx"})


def _take_place(
    work: Path, folder: Path, record: dict[str, Any], sequences: int, fidelity: Fidelity
) -> None:
    """Records the new checksums and puts `work` in the place of `folder`."""
    files = {name: digest(work / name) for name in record["files"]}
    refined = {"method": "dwq", "sequences": sequences}
    text = json.dumps(record | {"files": files, "refined": refined}, indent=2)
    (work / RECORD).write_text(text + "\n", encoding="utf-8")
    write_card(work, fidelity.as_dict())
    for path in work.iterdir():  # the name must not come before the contents
        sync(path)
    sync(work)
    old = _unrefined(folder)
    os.replace(folder, old)
    os.replace(work, folder)
    shutil.rmtree(old)
