"""Files of questions, read a line at a time."""

import io

import pytest

from mlx_gemma4.cli.batch import lines as module
from mlx_gemma4.cli.batch.lines import read_lines
from mlx_gemma4.cli.errors import InputError


def test_lines_are_numbered_and_empty_ones_left_out() -> None:
    data = b'\xef\xbb\xbf{"a": 1}\r\n\n  \n"b"'
    first, second = read_lines(io.BytesIO(data), "q")
    assert (first.number, first.value(), first.end) == (1, {"a": 1}, 13)
    assert (second.number, second.value(), second.end) == (4, "b", len(data))


def test_blanks_around_a_line_change_no_digest() -> None:
    one, other = (next(read_lines(io.BytesIO(d), "q")) for d in (b"3\r\n", b" 3"))
    assert one.digest == other.digest
    assert one.digest != next(read_lines(io.BytesIO(b"4"), "q")).digest


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 100_000, b"no"])
def test_what_is_no_json_is_told(data: bytes) -> None:
    _, line = read_lines(io.BytesIO(b"1\n" + data), "q")
    with pytest.raises(InputError, match="The line is"):
        line.value()


def test_a_line_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 10)
    monkeypatch.setattr(module, "CHUNK", 4)
    data = b"1\n" + b"2" * 25 + b"\n3\n"
    one, long, three = read_lines(io.BytesIO(data), "q")
    assert (one.value(), three.value()) == (1, 3)
    assert (three.number, three.end) == (3, len(data))
    with pytest.raises(InputError, match="longer than"):
        long.value()


@pytest.mark.parametrize(
    ("data", "told"), [(b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG"), (b" [{}]", "jq -c")]
)
def test_other_files_are_refused(data: bytes, told: str) -> None:
    with pytest.raises(InputError, match=told):
        next(read_lines(io.BytesIO(data), "q"))
