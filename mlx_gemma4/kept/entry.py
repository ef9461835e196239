"""One kept prompt: a safetensors file whose name is the SHA-256 of what is in it.

So one that is cut, changed or swapped is seen, and processes that write at once do not
meet. Nothing in a file is believed before its header was checked against the model, and
nothing is used before all of it was read and its name found to be right.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import mlx.core as mx
import numpy as np

from ..checkpoint.files import LENGTH, StoredTensor, header_of
from ..checkpoint.shards import ALIGNMENT
from ..errors import CacheError
from ..state import PRIVATE

NAME = re.compile(r"([0-9a-f]{64})\.safetensors")
FORMAT = 1
ABOUT, TOKENS = "about", "tokens"
MOST_HEADER = 2**22  # bytes; a large model's entry has some 20,000
MOST_ABOUT = 2**22
MOST_TOKENS = 2**26  # bytes of their numbers
STORED = {mx.float32: "F32", mx.float16: "F16", mx.bfloat16: "BF16", mx.uint32: "U32"}
NUMPY = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "U32": np.uint32}
# The bits of infinity; those of what is no number are above it, but for the sign.
INFINITY = {"F32": np.uint32(0x7F800000), "F16": np.uint16(0x7C00)}
INFINITY["BF16"] = np.uint16(0x7F80)
BLOCK = 2**20  # numbers that are looked at at once


class GivenUp(Exception):
    """Nobody waits any more until an entry is written."""


@dataclass(frozen=True)
class Medium:
    """The content that placeholders of a prompt stand for; key: as `content_keys`."""

    start: int
    end: int
    key: int


@dataclass(frozen=True)
class About:
    """identity: of what read it. of: the conversation it is kept for, if of one.
    pins: after how many tokens, and whether others are known to begin so."""

    identity: str
    of: str | None
    pins: Sequence[tuple[int, bool]]
    media: Sequence[Medium]

    def to_json(self) -> bytes:
        media = [[m.start, m.end, str(m.key)] for m in self.media]
        stated = {"format": FORMAT, "identity": self.identity, "of": self.of}
        return json.dumps({**stated, "pins": self.pins, "media": media}).encode()

    @classmethod
    def from_json(cls, data: bytes, tokens: int) -> "About":
        """Raises ValueError and its like for what `to_json` did not write."""
        given = json.loads(data.decode())
        pins = tuple((at, shared) for at, shared in given["pins"])
        media = tuple(Medium(a, b, int(key)) for a, b, key in given["media"])
        of, identity = given["of"], given["identity"]
        places = [0, *(place for m in media for place in (m.start, m.end)), tokens]
        right = (
            given["format"] == FORMAT
            and isinstance(identity, str)
            and isinstance(of, str | None)
            and all(type(at) is int and type(shared) is bool for at, shared in pins)
            and _ascend([0, *(at for at, _ in pins)], strictly=True)
            and all(at <= tokens for at, _ in pins)
            and all(type(place) is int for place in places)
            and _ascend(places)
            and all(m.start < m.end and m.key < 0 for m in media)
        )
        if not right:
            raise ValueError("not as it is written")
        return cls(identity, of, pins, media)


def _ascend(numbers: Sequence[int], strictly: bool = False) -> bool:
    pairs = zip(numbers, numbers[1:], strict=False)
    return all(a < b or (a == b and not strictly) for a, b in pairs)


@dataclass(frozen=True)
class Head:
    """What a file says of itself. keys: of its tokens, with media told apart.
    tensors: of caches, by name."""

    file: Path
    size: int
    about: About
    tokens: Sequence[int]
    keys: Sequence[int]
    tensors: Mapping[str, StoredTensor]


def opened(file: Path, most: int) -> BinaryIO:
    """A file that only its owner, who asks, can have written, of at most `most` bytes.
    Raises OSError and CacheError for anything else."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    stream = os.fdopen(os.open(file, flags), "rb", buffering=0)
    about = os.fstat(stream.fileno())
    plain = stat.S_ISREG(about.st_mode) and not about.st_mode & 0o077
    if not plain or about.st_uid != os.getuid() or about.st_size > most:
        stream.close()
        raise CacheError(f"{file} is no file of this user alone, or too large.")
    return stream


def read_head(file: Path, most: int) -> Head:
    """Raises OSError, and ValueError and its like for what is no entry."""
    with opened(file, most) as stream:
        size = os.fstat(stream.fileno()).st_size
        if int.from_bytes(stream.read(LENGTH), "little") > MOST_HEADER:
            raise CacheError(f"{file} has too long a header.")
        stream.seek(0)
        tensors = header_of(file, stream, size)
        about, ids = tensors.pop(ABOUT), tensors.pop(TOKENS)
        if about.dtype != "U8" or about.nbytes > MOST_ABOUT:
            raise CacheError(f"{file} does not say what it is.")
        if (
            ids.dtype != "I32"
            or len(ids.shape) != 1
            or not 0 < ids.nbytes <= MOST_TOKENS
        ):
            raise CacheError(f"{file} holds no tokens.")
        tokens = _read(stream, ids).view(np.int32).tolist()
        said = About.from_json(_read(stream, about).tobytes(), len(tokens))
    keys = list(tokens)
    for m in said.media:
        keys[m.start : m.end] = [m.key] * (m.end - m.start)
    return Head(file, size, said, tokens, keys, tensors)


def _read(stream: BinaryIO, tensor: StoredTensor) -> np.ndarray:
    stream.seek(tensor.offset)
    return _read_on(stream, tensor.nbytes)


def _read_on(stream: BinaryIO, count: int) -> np.ndarray:
    data = np.empty(count, np.uint8)
    rest = data.data
    while rest:
        got = stream.readinto(rest)  # type: ignore[attr-defined]
        if not got:
            raise CacheError("The file ends before its tensors do.")
        rest = rest[got:]
    return data


def read_arrays(head: Head, most: int) -> dict[str, mx.array]:
    """All tensors of an entry, once its content is found to be what its name says.
    Raises OSError and CacheError."""
    match = NAME.fullmatch(head.file.name)
    digest, arrays, finite = hashlib.sha256(), dict[str, mx.array](), True
    ordered = sorted(head.tensors.values(), key=lambda tensor: tensor.offset)
    with opened(head.file, most) as stream:
        digest.update(_read_on(stream, ordered[0].offset).data)
        for tensor in ordered:
            data = _read_on(stream, tensor.nbytes)
            digest.update(data.data)
            finite = finite and _finite(data, tensor.dtype)
            plain = data.view(NUMPY[tensor.dtype]).reshape(tensor.shape)
            array = mx.array(plain)
            if tensor.dtype == "BF16":
                array = array.view(mx.bfloat16)
            arrays[tensor.name] = array
        ended = not stream.read(1)
    if match is None or digest.hexdigest() != match[1] or not ended:
        raise CacheError(f"{head.file} is not what was written.")
    if not finite:
        raise CacheError(f"{head.file} holds what is no number.")
    return arrays


def _finite(data: np.ndarray, dtype: str) -> bool:
    """By the bits, which takes a tenth of what MLX's isfinite takes on a CPU."""
    if (infinity := INFINITY.get(dtype)) is None:
        return True
    bits, but_sign = data.view(infinity.dtype), np.iinfo(infinity.dtype).max >> 1
    parts = (bits[at : at + BLOCK] for at in range(0, bits.size, BLOCK))
    return all((part & but_sign).max() < infinity for part in parts)


def plain_arrays(arrays: Mapping[str, mx.array]) -> dict[str, np.ndarray]:
    """The same, for another thread to write: without a copy where they are computed."""
    bits = {
        name: array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
        for name, array in arrays.items()
    }
    mx.eval(bits)
    return {name: np.array(array, copy=False) for name, array in bits.items()}


def write(
    work: Path,
    about: About,
    tokens: Sequence[int],
    dtypes: Mapping[str, str],
    arrays: Mapping[str, np.ndarray],
    given_up: Callable[[], bool] = lambda: False,
) -> str:
    """Writes an entry into a new file; returns the name that it has to get.

    dtypes, arrays: by name, as a file has them, arrays [1, heads, positions, …].
    given_up: is asked before each part. Raises OSError, and GivenUp.
    """
    said = about.to_json()
    said += b" " * (-len(said) % ALIGNMENT)
    first = {
        ABOUT: np.frombuffer(said, np.uint8),
        TOKENS: np.array(tokens, np.int32),
    }
    everything = {**first, **arrays}
    header = _header({ABOUT: "U8", TOKENS: "I32", **dtypes}, everything)
    digest = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(work, flags, PRIVATE), "wb", buffering=0) as stream:

        def put(data: memoryview) -> None:
            digest.update(data)
            while data:
                data = data[stream.write(data) :]

        put(memoryview(header))
        for array in everything.values():
            # Head by head: the positions of one lie side by side in a cache's buffer.
            parts = array[0] if array.ndim == 4 else [array]
            for part in parts:
                if given_up():
                    raise GivenUp
                put(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    return f"{digest.hexdigest()}.safetensors"


def _header(dtypes: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> bytes:
    entries: dict[str, object] = {}
    position = 0
    for name, array in arrays.items():
        end = position + array.nbytes
        entries[name] = {
            "dtype": dtypes[name],
            "shape": list(array.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(LENGTH, "little") + text
