"""Parts of files at the Hub, whatever a server makes of the question."""

from contextlib import suppress

import hub_server
import pytest
from hub_server import PIECE, Handler, Hub

from mlx_gemma4.convert.ranges import Ranges
from mlx_gemma4.hub.cache import HubFile

NAME = "model.safetensors"
DATA = bytes(range(256)) * 1024


def test_an_answer_without_end(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is read than was asked for."""

    def send_stored(handler: Handler, place: str) -> None:
        first, _, last = (handler.headers["Range"] or "")[6:].partition("-")
        part = f"bytes {first}-{last}/{len(DATA)}"
        handler.start(206, {"Content-Range": part, "Connection": "close"})
        with suppress(ConnectionError):
            handler.wfile.write(DATA[int(first) :])
            while True:
                handler.wfile.write(bytes(PIECE))

    monkeypatch.setattr(Handler, "send_stored", send_stored)
    repo = hub.add("org/name", {NAME: DATA})
    file = HubFile(NAME, len(DATA), hub_server.identity(NAME, DATA))
    assert Ranges("org/name", repo.main).read(file, 1000, 70_000) == DATA[1000:71_000]
