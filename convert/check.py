"""What a conversion cost, measured, and whether its files are what they should be.

The fidelity of a converted model is how far its predictions of every next token are
from the source's: the Kullback-Leibler divergence, how often both prefer the same
token, and the perplexity of each. Both models see the same tokens. They are loaded one
after the other, and the source's predictions wait on disk: memory holds one model and
a few rows of predictions.
"""

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import mlx.core as mx
import numpy as np

from mlx_gemma4.chat.tokenizer import Tokenizer
from mlx_gemma4.checkpoint.copies import check_copies
from mlx_gemma4.checkpoint.files import listed
from mlx_gemma4.checkpoint.folders import check_inside
from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.checkpoint.names import BOUNDS
from mlx_gemma4.config import Config
from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.model import Gemma4
from mlx_gemma4.prompt.vocabulary import check_tokens

from .card import RECORD
from .drafters import plan_either
from .errors import OutputError
from .sample import TEXTS

# Positions predicted together: 64 rows of 262,144 float32 numbers are 67 MB.
ROWS = 64
READ = 16 * 2**20

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Fidelity:
    """How the predictions of a converted model differ from its source's.

    tokens: predictions compared. kl_…: divergence in nats. top1: share of predictions
    with the same most probable token. perplexities: of the text that was predicted.
    """

    tokens: int
    kl_mean: float
    kl_median: float
    kl_p99: float
    kl_max: float
    top1: float
    perplexity_source: float
    perplexity_converted: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Verified:
    """Files whose checksums were compared, tensors that were read, and their bytes.

    files is 0 where no checksums are known: `gemma4 convert` did not make the folder.
    """

    files: int
    tensors: int
    bytes: int


def verify(folder: Path, advance: Advance = lambda count: None) -> Verified:
    """Checks every file against its checksum, every tensor's shape and its values.

    What another converter made has no checksums here; the rest is checked all the same.
    advance: called with the bytes of each piece that was read.
    Raises CheckpointError that names what is wrong.
    """
    files = _recorded_files(folder)
    plan = plan_either(folder)
    check_copies(plan.fit.copies)
    tensors = plan.tensors
    weights = sorted({tensor.file for tensor in tensors.values()})
    if files is None:
        for file in weights:
            _check_values(file)
            advance(file.stat().st_size)
        return Verified(0, len(tensors), sum(file.stat().st_size for file in weights))
    size = sum(_check_file(folder / name, files[name], advance) for name in files)
    if unlisted := [file.name for file in weights if file.name not in files]:
        raise CheckpointError(
            f"{folder / RECORD} has no checksum of {listed(unlisted)}."
        )
    for file in weights:
        _check_values(file)
    return Verified(len(files), len(tensors), size)


def _recorded_files(folder: Path) -> dict[str, Any] | None:
    """Checksums by file; None where the folder has no record of its conversion."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        files = record["files"]
        if not isinstance(files, dict) or not files:
            raise KeyError
        if any("/" in name or "\0" in name for name in files):
            raise KeyError
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(f"{folder / RECORD} is damaged.") from None
    for name in files:
        check_inside(folder, name)
    return files


def digest(path: Path, advance: Advance = lambda count: None) -> dict[str, Any]:
    """SHA-256 and size of a file, as conversion.json has them."""
    found, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while block := stream.read(READ):
            found.update(block)
            size += len(block)
            advance(len(block))
    return {"sha256": found.hexdigest(), "bytes": size}


def _check_file(path: Path, stated: Any, advance: Advance) -> int:
    try:
        found = digest(path, advance)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing. Convert the model again.") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from None
    if found != stated:
        raise CheckpointError(
            f"{path} has changed since it was written. Convert the model again."
        )
    return found["bytes"]


def _check_values(file: Path) -> None:
    """All floating values of a file are finite; one tensor in memory at a time.

    But for what a tower clips to, which may be without end.
    """
    arrays = mx.load(str(file), format="safetensors")
    assert isinstance(arrays, dict)
    for name in sorted(arrays):
        array = arrays.pop(name)
        if not mx.issubdtype(array.dtype, mx.floating):
            continue
        good = ~mx.isnan(array) if name.endswith(BOUNDS) else mx.isfinite(array)
        if not good.all():
            raise CheckpointError(f"{name} in {file} has NaN or infinite values.")
        mx.clear_cache()


def compare(
    source: Path,
    converted: Path,
    texts: Sequence[str] | None = None,
    *,
    tokens: Sequence[Sequence[int]] | None = None,
    dtype: mx.Dtype | None = None,
    advance: Advance = lambda count: None,
) -> Fidelity:
    """How far `converted` is from `source`, two local folders, on sample text.

    texts: None takes this module's own. tokens: sequences to predict instead of texts,
        each with its beginning-of-text token.
    dtype: both models compute in; None is each one's own.
    advance: called with the number of positions that a model has read.

    Raises CheckpointError where the two do not share a vocabulary or it has no place
    for a token of the text, OutputError where the source's predictions find no room: a
    megabyte per token, for a while.
    """
    config = _shared_vocabulary(source, converted)
    if tokens is None:
        tokens = encoded(source, TEXTS if texts is None else texts)
    check_tokens(tokens, config)
    tokens = [list(sequence) for sequence in tokens if len(sequence) > 1]
    if not tokens:
        raise ValueError("There is no text to compare on: two tokens are the least.")
    vocabulary = config.text_config.vocab_size
    _check_room(4 * vocabulary * sum(len(sequence) - 1 for sequence in tokens))
    with tempfile.TemporaryFile() as spool:
        _spool(load_model(source, dtype), tokens, spool, advance)
        mx.clear_cache()
        spool.seek(0)
        return _compared(load_model(converted, dtype), tokens, spool, advance)


def _check_room(needed: int) -> None:
    place = tempfile.gettempdir()
    free = shutil.disk_usage(place).free
    if needed > free:
        raise OutputError(
            f"The source's predictions take {needed / 1e9:.1f} GB for a while, and "
            f"{place} has {free / 1e9:.1f} GB: set TMPDIR to a larger place."
        )


def _shared_vocabulary(source: Path, converted: Path) -> Config:
    """The source's configuration, if both have tables of the same size."""
    ours, theirs = (Config.from_file(f / "config.json") for f in (source, converted))
    for key in ("vocab_size", "token_rows"):
        sizes = [getattr(each.text_config, key) for each in (ours, theirs)]
        if sizes[0] != sizes[1]:
            raise CheckpointError(
                f"{source} has {sizes[0]} tokens and {converted} has {sizes[1]}: they "
                "are not the same model."
            )
    return ours


def encoded(folder: Path, texts: Iterable[str]) -> list[list[int]]:
    """Token ids of each text, with the token that begins a text."""
    tokenizer = Tokenizer(folder)
    return [tokenizer.encode_document(text) for text in texts]


def _spool(
    model: Gemma4, tokens: Sequence[Sequence[int]], spool: IO[bytes], advance: Advance
) -> None:
    for _, logs in _predictions(model, tokens, advance):
        spool.write(np.array(logs).tobytes())


def _predictions(
    model: Gemma4, tokens: Sequence[Sequence[int]], advance: Advance
) -> Iterator[tuple[mx.array, mx.array]]:
    """Next tokens [n] and logarithms of their predicted probabilities [n, vocab]."""
    for sequence in tokens:
        cache = model.make_cache()
        for start in range(0, len(sequence) - 1, ROWS):
            piece = mx.array(list(sequence[start : start + ROWS + 1]))
            logits = model(piece[None, :-1], cache)[0].astype(mx.float32)
            logs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
            mx.eval(logs)
            yield piece[1:], logs
            advance(len(piece) - 1)


@dataclass
class Rows:
    """Numbers of each prediction."""

    divergences: list[float]
    surprises: list[float]
    source_surprises: list[float]
    agreements: int = 0


def _compared(
    model: Gemma4, tokens: Sequence[Sequence[int]], spool: IO[bytes], advance: Advance
) -> Fidelity:
    rows = Rows([], [], [])
    for following, logs in _predictions(model, tokens, advance):
        data = np.frombuffer(spool.read(logs.nbytes), np.float32)
        wanted = mx.array(data).reshape(logs.shape)
        divergence = (mx.exp(wanted) * (wanted - logs)).sum(-1)
        same = mx.argmax(wanted, -1) == mx.argmax(logs, -1)
        at = following[:, None]
        surprises = [-mx.take_along_axis(a, at, -1)[:, 0] for a in (logs, wanted)]
        mx.eval(divergence, same, surprises)
        if not mx.isfinite(divergence).all():
            raise CheckpointError(
                "A model predicts values that are not finite: the conversion or its "
                "source is damaged."
            )
        # Rounding can bring the divergence of equal predictions just below zero.
        rows.divergences += np.maximum(np.array(divergence), 0).tolist()
        rows.surprises += np.array(surprises[0]).tolist()
        rows.source_surprises += np.array(surprises[1]).tolist()
        rows.agreements += int(same.sum())
    return summary(rows)


def summary(rows: Rows) -> Fidelity:
    divergences = np.array(rows.divergences)
    return Fidelity(
        tokens=len(divergences),
        kl_mean=float(divergences.mean()),
        kl_median=float(np.median(divergences)),
        kl_p99=float(np.quantile(divergences, 0.99)),
        kl_max=float(divergences.max()),
        top1=rows.agreements / len(divergences),
        perplexity_source=math.exp(np.mean(rows.source_surprises)),
        perplexity_converted=math.exp(np.mean(rows.surprises)),
    )
