"""Text files as they stand, and their lines."""

from pathlib import Path

import pytest

from mlx_gemma4.errors import DataError
from mlx_gemma4.reading.text_file import numbered_lines, read_text


def test_the_mark_and_returns_are_left_out_and_nothing_else(tmp_path: Path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfone\r\n\xe2\x80\xa8two ")
    assert read_text(file) == "one\n\u2028two "


def test_lines_end_at_newlines_alone():
    assert list(numbered_lines("a\u2028b\n \n\nc\n")) == [(1, "a\u2028b"), (4, "c")]


def test_what_cannot_be_read_is_said(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"ab\xff")
    with pytest.raises(DataError, match=r"a\.txt is not UTF-8 text \(byte 2\)"):
        read_text(tmp_path / "a.txt")
    with pytest.raises(DataError, match="none cannot be read: No such file"):
        read_text(tmp_path / "none")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_text(tmp_path)
