"""What does not end is left off, and said in the words of an error of reading."""

import os
import tracemalloc
from pathlib import Path

import pytest

from mlx_gemma4.chat.template import ChatTemplate
from mlx_gemma4.errors import CheckpointError, DataError
from mlx_gemma4.reading import bounded, json_file, text_file
from mlx_gemma4.reading.bounded import read_bytes

needs_zero = pytest.mark.skipif(
    not os.path.exists("/dev/zero"), reason="there is no /dev/zero"
)


def test_all_of_a_file(tmp_path: Path):
    file = tmp_path / "file"
    file.write_bytes(b"abc" * 1_000_000)
    assert read_bytes(file) == read_bytes(file, 3_000_000) == b"abc" * 1_000_000
    with pytest.raises(OSError, match="does not end after 3.00 MB"):
        read_bytes(file, 2_999_999)


@needs_zero
def test_what_never_ends_takes_no_more_than_its_bound():
    tracemalloc.start()
    try:
        with pytest.raises(OSError, match="does not end"):
            read_bytes(Path("/dev/zero"), 10_000_000)
        assert tracemalloc.get_traced_memory()[1] < 25_000_000
    finally:
        tracemalloc.stop()


@needs_zero
def test_devices_in_the_place_of_files(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(text_file, "MOST", 1000)
    with pytest.raises(DataError, match="cannot be read: it does not end"):
        text_file.read_text(Path("/dev/zero"))
    monkeypatch.setattr(bounded.read_bytes, "__defaults__", (1000,))
    with pytest.raises(CheckpointError, match="cannot be read: it does not end"):
        json_file.read_object(Path("/dev/zero"))
    (tmp_path / "chat_template.jinja").symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match="does not end after 10.0 MB"):
        ChatTemplate.from_folder(tmp_path, "<bos>")
