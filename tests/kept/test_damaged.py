"""300 entries that are damaged or forged: none is used, none makes trouble."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from mlx_gemma4 import Gemma4
from mlx_gemma4.decoding.prefill import Prompt, prefill
from mlx_gemma4.decoding.prefix import PrefixCache
from mlx_gemma4.kept.folder import files
from mlx_gemma4.kept.store import KeptPrompts

WORDS = [2, *(10 + n * n % 71 for n in range(59))]
ASKED = [*WORDS, 5, 6]


@pytest.fixture(scope="module")
def model() -> Gemma4:
    return tiny.build("E2B", num_hidden_layers=10)


@pytest.fixture(scope="module")
def whole(model: Gemma4, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    prefix, kept = PrefixCache(model), KeptPrompts(folder, "this model")
    prefill(model, Prompt(WORDS, (), WORDS), prefix, 0, 1024)
    kept.keep(prefix)
    kept.close()
    (file,) = files(folder)
    return file


def named(data: bytes) -> str:
    return f"{hashlib.sha256(data).hexdigest()}.safetensors"


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and what stands behind it."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def rebuilt(parts: dict[str, tuple[str, list[int], bytes]]) -> bytes:
    """A file of these tensors that is in order: type, shape, bytes."""
    header, body = dict[str, Any](), b""
    for name, (dtype, shape, data) in parts.items():
        offsets = [len(body), len(body) + len(data)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        body += data
    return joined(header, body)


def damaged(data: bytes) -> Iterator[bytes]:
    """Cut, changed, longer: under the name of the whole one."""
    for n in range(70):
        yield data[: len(data) * n // 70]
    for n in range(140):
        at = len(data) * n // 140 if n >= 50 else n * 37
        yield data[:at] + bytes([data[at] ^ 1 << n % 8]) + data[at + 1 :]
    yield from (data + b"\0", data + data, b"\0" * len(data), data[::-1])


def forged(data: bytes) -> Iterator[bytes]:
    """In order as files, with the names that they ought to have; but never written."""
    header, body = split(data)
    parts = {
        name: (each["dtype"], each["shape"], body[slice(*each["data_offsets"])])
        for name, each in header.items()
    }
    layers = [name for name in parts if name not in ("about", "tokens")]
    for name in parts:
        yield rebuilt({n: part for n, part in parts.items() if n != name})
    for name in layers:
        dtype, shape, content = parts[name]
        numbers = np.frombuffer(content, np.float32).copy()
        for value in (np.nan, np.inf):
            numbers[numbers.size // 3] = value
            yield rebuilt({**parts, name: (dtype, shape, numbers.tobytes())})
        _, heads, slots, width = shape
        half = content[: len(content) // 2]
        for other in (
            (dtype, [1, slots, heads, width], content),
            (dtype, [heads, 1, slots, width], content),
            (dtype, [1, heads, slots * width], content),
            (dtype, [1, heads, slots // 2, width], half),
            (dtype, [1, heads, slots, width // 2], half),
            ("I32", shape, content),
            ("F16", shape, half),
            ("F64", [1, heads, slots, width // 2], content),
        ):
            yield rebuilt({**parts, name: other})
        yield rebuilt({**parts, f"{name}.0": parts[name]})
    tokens = np.frombuffer(parts["tokens"][2], np.int32)
    for bad in ([*tokens[:-1], 96], [*tokens[:-1], -5], tokens[:-1], [*tokens, 4], []):
        content = np.array(bad, np.int32).tobytes()
        yield rebuilt({**parts, "tokens": ("I32", [len(bad)], content)})
    yield rebuilt({**parts, "tokens": ("U32", parts["tokens"][1], parts["tokens"][2])})
    about = json.loads(parts["about"][2])
    for change in (
        {"format": 2},
        {"identity": 5},
        {"of": 5},
        {"pins": [[3, False]]},
        {"pins": [[70, True]]},
        {"pins": [[True, True]]},
        {"pins": 4},
        {"media": [[0, 5, "7"]]},
        {"media": [[0, 99, "-7"]]},
        {"media": [[5, 3, "-7"]]},
        {"media": [[0.0, 3, "-7"]]},
        {"media": [["a", 3, "-7"]]},
        {"media": [[0, 3, "-" + "9" * 9000]]},
    ):
        text = json.dumps({**about, **change}).encode()
        yield rebuilt({**parts, "about": ("U8", [len(text)], text)})
    for text in (b"", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000, b"9" * 5000):
        yield rebuilt({**parts, "about": ("U8", [len(text)], text)})
        yield joined(text, body)
    yield (2**63).to_bytes(8, "little") + data[8:]
    yield (2**22 + 1).to_bytes(8, "little") + b" " * (2**22 + 1)


def test_none_is_used(model: Gemma4, whole: Path, tmp_path: Path) -> None:
    data, tried, left = whole.read_bytes(), 0, 0
    cases = [(whole.name, each) for each in damaged(data)]
    cases += [(named(each), each) for each in forged(data)]
    cases.append((named(b"another"), data))
    for name, content in cases:
        file = tmp_path / name
        file.write_bytes(content)
        file.chmod(0o600)
        prefix = PrefixCache(model)
        assert not KeptPrompts(tmp_path, "this model").recall(prefix, ASKED), tried
        assert not prefix.tokens, tried
        left += file.exists()  # it may say to be another model's, or of another prompt
        file.unlink(missing_ok=True)
        tried += 1
    assert tried > 300 and left < 30
    (tmp_path / whole.name).write_bytes(data)
    (tmp_path / whole.name).chmod(0o600)
    assert KeptPrompts(tmp_path, "this model").recall(PrefixCache(model), ASKED)


def test_what_is_no_file_of_the_user_alone(
    model: Gemma4, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, file = whole.read_bytes(), tmp_path / whole.name

    def refused() -> bool:
        prefix = PrefixCache(model)
        kept = KeptPrompts(tmp_path, "this model", most_bytes=10**8)
        return not kept.recall(prefix, ASKED) and not prefix.tokens

    file.symlink_to(whole)
    assert refused() and not file.is_symlink() and whole.exists()
    os.mkfifo(file)
    assert refused() and not file.exists()
    file.mkdir()
    assert refused()
    file.rmdir()
    file.write_bytes(data)
    file.chmod(0o644)
    assert refused() and not file.exists()
    file.write_bytes(data)
    file.chmod(0o600)
    os.truncate(file, 10**12)  # a hole: it takes no room
    assert refused() and not file.exists()
    file.write_bytes(data)
    file.chmod(0o600)
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert refused()


def test_another_models_is_left_alone(
    model: Gemma4, whole: Path, tmp_path: Path
) -> None:
    file = tmp_path / whole.name
    file.write_bytes(whole.read_bytes())
    file.chmod(0o600)
    assert not KeptPrompts(tmp_path, "that").recall(PrefixCache(model), ASKED)
    assert file.exists()
