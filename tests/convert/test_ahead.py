"""Reading ahead: what is fetched in one go, how far ahead, and how it ends."""

from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from mlx_gemma4.convert import ahead
from mlx_gemma4.convert.ahead import Ahead, Part, Piece
from mlx_gemma4.convert.ranges import Stopped
from mlx_gemma4.hub.cache import HubFile

PATH = Path("a.safetensors")
FILE = HubFile("a.safetensors", 1000, "0" * 40)


class Server:
    """In place of Ranges: byte i of the file is i % 251."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.full, self.answers = Event(), Event()
        self.answers.set()
        self.error: Exception | None = None

    def read(self, file: HubFile, start: int, count: int) -> bytearray:
        assert file == FILE
        self.asked.append((start, count))
        if len(self.asked) == ahead.AHEAD:
            self.full.set()
        self.answers.wait()
        if self.error:
            raise self.error
        return bytearray(i % 251 for i in range(start, start + count))

    def stop(self) -> None:
        self.error = Stopped()
        self.answers.set()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(ahead, "PIECE", 10)
    monkeypatch.setattr(ahead, "CONNECTIONS", 3)
    monkeypatch.setattr(ahead, "AHEAD", 3)
    return Server()


def reader(server: Any) -> Ahead:
    return Ahead(server, {PATH: FILE})


def part(start: int, count: int) -> Part:
    return Part(PATH, start, start + count)


def test_neighbours_are_one_run_in_any_order() -> None:
    other = Part(Path("b.safetensors"), 6, 8)
    piece = Piece([part(4, 2), part(0, 4), other, part(9, 1)])
    assert piece.runs == [part(0, 6), part(9, 1), other]


def test_parts_come_as_they_are_in_the_file(server: Server) -> None:
    files = reader(server)
    parts = [part(8, 4), part(0, 4), part(4, 4), part(12, 0), part(20, 25), part(50, 2)]
    files.expect(parts)
    for each in parts:
        assert [*files.take(each)] == [*range(each.start, each.end)]
    # Two fit into a piece; a long part is one by itself.
    asked = sorted(each for each in server.asked if each[1])
    assert asked == [(0, 4), (4, 4), (8, 4), (20, 25), (50, 2)]
    assert [*files.take(part(0, 2))] == [0, 1]  # not expected, and fetched


def test_no_more_is_fetched_than_is_held(server: Server) -> None:
    files = reader(server)
    parts = [part(10 * i, 10) for i in range(9)]
    files.expect(parts)
    assert server.full.wait(30)
    for i, each in enumerate(parts):
        files.take(each)
        assert len(server.asked) <= i + 1 + ahead.AHEAD
    assert len(server.asked) == 9


def test_what_goes_wrong_is_told_to_who_takes_it(server: Server) -> None:
    server.error = ValueError("damaged")
    files = reader(server)
    files.expect([part(0, 4)])
    with pytest.raises(ValueError, match="damaged"):
        files.take(part(0, 4))


def test_closing_wakes_who_waits(server: Server) -> None:
    server.answers.clear()
    files = reader(server)
    files.expect([part(10 * i, 10) for i in range(9)])
    assert server.full.wait(30)
    Thread(target=files.close).start()
    with pytest.raises(Stopped):
        files.take(part(0, 10))
    assert len(server.asked) == ahead.AHEAD
