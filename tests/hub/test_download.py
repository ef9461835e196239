"""Downloads that are stopped, cut, damaged or crowded: every byte comes once."""

import fcntl
from pathlib import Path
from typing import Any

import hub_server
import mlx.core as mx
import pytest
from hub_client import demo
from hub_server import Hub

from mlx_gemma4.checkpoint.plan import Footprint
from mlx_gemma4.errors import (
    BusyError,
    CheckpointError,
    DiskFullError,
    ModelNotFoundError,
)
from mlx_gemma4.hub import transfer
from mlx_gemma4.hub.download import download
from mlx_gemma4.hub.offer import Offer, offer
from mlx_gemma4.hub.resolve import local_folder, resolve
from mlx_gemma4.reading.sizes import size

WEIGHTS = "model.safetensors"
SIZES = {name: len(data) for name, data in demo(README__md=None).items()}
HALF = SIZES[WEIGHTS] // 2


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a model would load is tested with the offers."""
    monkeypatch.setattr(transfer, "WAITS", (0, 0))
    none = Footprint(mx.float32, 0)
    monkeypatch.setattr("mlx_gemma4.hub.offer._memory", lambda *_: none)


def partial(found: Offer) -> Path:
    (weights,) = (file for file in found.files if file.name == WEIGHTS)
    return found.cache.partial(weights)


def test_all_of_it_and_then_nothing(hub: Hub) -> None:
    """The progress is exact, and what was fetched needs no network any more."""
    hub.add("org/demo", demo())
    found, came = offer("org/demo"), list[int]()
    assert local_folder("org/demo") is None
    folder = download(found, came.append)
    assert sum(came) == found.to_fetch + sum(came)
    assert {f.name: f.stat().st_size for f in folder.iterdir()} == SIZES
    assert all(f.read_bytes() == demo()[f.name] for f in folder.iterdir())
    assert dict(hub.sent) == SIZES
    asked = len(hub.requests)
    names = ("org/demo", "org/demo@main", f"org/demo@{found.commit}")
    assert {resolve(name) for name in names} == {folder}
    assert len(hub.requests) == asked


def test_files_that_hold_the_same(hub: Hub) -> None:
    """One comes for all of them."""
    same = {f"{name}.json": b'{"same": true}' for name in ("a", "b", "c")}
    hub.add("org/demo", demo() | same)
    found, came = offer("org/demo"), list[int]()
    lacking = found.to_fetch
    folder = download(found, came.append)
    assert sum(came) == lacking and sum(hub.sent[name] for name in same) == 14
    assert all((folder / name).read_bytes() == data for name, data in same.items())


def test_a_branch(hub: Hub) -> None:
    repo = hub.add("org/demo", demo())
    folder = download(offer(f"org/demo@{repo.main}"))
    assert local_folder("org/demo") is None  # nobody asked for the main branch
    assert local_folder(f"org/demo@{repo.main}") == folder


def test_what_another_commit_has_comes_once(hub: Hub) -> None:
    repo = hub.add("org/demo", demo())
    old = download(offer("org/demo"))
    repo.commit(demo(generation_config__json=b"{}"))
    found = offer("org/demo")
    assert found.to_fetch == 2
    new = download(found)
    assert new != old and resolve("org/demo") == new
    assert hub.sent[WEIGHTS] == SIZES[WEIGHTS]


def test_stopped_and_gone_on_with(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is received until then, nothing is lost."""
    hub.add("org/demo", demo())
    hub.stall[WEIGHTS] = HALF
    found = offer("org/demo")
    lacking = found.to_fetch - (SIZES[WEIGHTS] - HALF)
    came = 0

    def advance(count: int) -> None:
        nonlocal came
        came += count
        if came == lacking:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(found, advance)
    assert partial(found).stat().st_size == HALF
    assert local_folder("org/demo") is None
    hub.stall.clear()
    hub.resume.set()
    again, notes = offer("org/demo"), list[str]()
    assert again.to_fetch == SIZES[WEIGHTS] - HALF
    monkeypatch.setattr(transfer, "LONG", HALF)
    download(again, note=notes.append)
    assert notes == [f"Checking the {size(HALF)} of {WEIGHTS} that are here."]
    # What the first connection had under way when it was given up is not received.
    ranges = [asked.range for asked in hub.requests if "/storage/" in asked.path]
    assert f"bytes={HALF}-{SIZES[WEIGHTS] - 1}" in ranges
    assert not partial(found).exists()


def test_lost_connections(hub: Hub) -> None:
    hub.add("org/demo", demo())
    found, notes = offer("org/demo"), list[str]()
    hub.cut[WEIGHTS] = [HALF // 2, HALF, HALF + 1]
    folder = download(found, note=notes.append)
    assert (folder / WEIGHTS).read_bytes() == demo()[WEIGHTS]
    assert dict(hub.sent) == SIZES
    assert len(notes) == 3 and all("connection was lost" in note for note in notes)


def test_a_connection_that_stays_lost(hub: Hub) -> None:
    hub.add("org/demo", demo())
    found = offer("org/demo")
    hub.cut[WEIGHTS] = [HALF, *[0] * 9]
    with pytest.raises(ModelNotFoundError, match="same command again to go on"):
        download(found)
    assert partial(found).stat().st_size == HALF
    hub.cut.clear()
    download(offer("org/demo"))
    assert dict(hub.sent) == SIZES


def test_what_was_left_by_a_kill(hub: Hub) -> None:
    """Complete but for its name."""
    hub.add("org/demo", demo())
    found = offer("org/demo")
    data = demo()[WEIGHTS]
    assert isinstance(data, bytes)
    sent = hub.sent[WEIGHTS]
    partial(found).write_bytes(data)
    assert found.to_fetch == found.nbytes - hub.fetched() - (len(data) - sent)
    download(found)
    assert hub.sent[WEIGHTS] == sent


def test_damaged(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/demo", demo())
    found = offer("org/demo")
    partial(found).write_bytes(bytes(HALF))
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors is not what the Hub"
    ):
        download(found)
    assert not partial(found).exists() and local_folder("org/demo") is None
    download(offer("org/demo"))
    assert local_folder("org/demo")


def test_a_file_that_changes_on_the_server(hub: Hub) -> None:
    repo = hub.add("org/demo", demo())
    found = offer("org/demo")
    data = demo()[WEIGHTS]
    assert isinstance(data, bytes)
    repo.commits[repo.main][WEIGHTS] = data[:-1] + b"?"
    with pytest.raises(CheckpointError, match="is being replaced there"):
        download(found)
    assert local_folder("org/demo") is None


def test_a_full_disk(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fitted is kept, and no half of a piece."""
    hub.add("org/demo", demo())
    found = offer("org/demo")
    import resource

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, hard))
    try:
        with pytest.raises(DiskFullError, match="same command again to go on"):
            download(found)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert 0 < partial(found).stat().st_size <= HALF
    folder = download(offer("org/demo"))
    assert (folder / WEIGHTS).read_bytes() == demo()[WEIGHTS]


def test_two_at_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_gemma4.hub.download.WORKERS", 1)  # the largest file first
    hub.add("org/demo", demo())
    found = offer("org/demo")
    with open(partial(found), "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match=r"being fetched by another process: wait"):
            download(found)
    download(found)
    assert local_folder("org/demo")


def test_the_token_goes_to_the_hub_alone(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/gated", demo(), gated=True)
    monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
    download(offer("org/gated"))
    given = {asked.host.split(":")[0]: asked.token for asked in hub.requests}
    assert given == {"127.0.0.1": hub_server.TOKEN, "localhost": None}


def test_without_links(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems have none: the files then lie in the snapshot."""

    def fail(*_: object) -> None:
        raise OSError("no links here")

    hub.add("org/demo", demo())
    monkeypatch.setattr(Path, "symlink_to", fail)
    folder = resolve("org/demo")
    assert {f.name for f in folder.iterdir() if not f.is_symlink()} == set(SIZES)
    assert resolve("org/demo") == folder and offer("org/demo").to_fetch == 0


def test_a_folder_that_cannot_be_written(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/demo", demo())
    (tmp_path / "file").touch()
    cache = str(tmp_path / "file" / "hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", cache)
    with pytest.raises(ModelNotFoundError, match="Not a directory. Set HF_HOME to"):
        offer("org/demo")


def test_a_server_without_ranges(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends whole files; no more is kept of one than was asked for."""
    send = hub_server.Handler.send_file

    def send_whole(self: hub_server.Handler, *about: Any) -> None:
        del self.headers["Range"]
        send(self, *about)

    monkeypatch.setattr(hub_server.Handler, "send_file", send_whole)
    hub.add("org/demo", demo())
    found = offer("org/demo")
    assert partial(found).stat().st_size < HALF
    assert (download(found) / WEIGHTS).read_bytes() == demo()[WEIGHTS]


def test_an_answer_without_end(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/demo", demo())
    found = offer("org/demo")

    def send(self: hub_server.Handler, data: bytes, begin: int) -> None:
        for at in range(begin, len(data), hub_server.PIECE):
            self.wfile.write(data[at : at + hub_server.PIECE])
        while True:
            self.wfile.write(bytes(hub_server.PIECE))

    def send_stored(self: hub_server.Handler, place: str) -> None:
        data = demo()[place.split("/", 3)[3]]
        assert isinstance(data, bytes)
        begin = int((self.headers["Range"] or "=0-")[6:].partition("-")[0])
        part = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        self.start(206, {"Content-Range": part, "Connection": "close"})
        send(self, data, begin)

    monkeypatch.setattr(hub_server.Handler, "send_stored", send_stored)
    assert (download(found) / WEIGHTS).read_bytes() == demo()[WEIGHTS]


def test_another_part_than_was_asked_for(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has come before is not lost over it."""
    hub.add("org/demo", demo())
    found = offer("org/demo")
    before = partial(found).read_bytes()
    send = hub_server.Handler.send_file

    def send_first(self: hub_server.Handler, *about: Any) -> None:
        del self.headers["Range"]
        self.headers["Range"] = "bytes=0-99"
        send(self, *about)

    monkeypatch.setattr(hub_server.Handler, "send_file", send_first)
    with pytest.raises(ModelNotFoundError, match="another part of the file came"):
        download(found)
    assert partial(found).read_bytes() == before


def test_what_is_gone_meanwhile(hub: Hub, tmp_path: Path) -> None:
    """Only what was made for it is removed again: no folder of the user's."""
    repo = hub.add("org/demo", demo())
    found = offer("org/demo")
    gone = repo.main
    repo.commits["1" * 40] = repo.commits.pop(gone)
    with pytest.raises(ModelNotFoundError, match=f"no revision '{gone}' on the Hub"):
        download(found)
    repo.gated = True
    (tmp_path / "cache").rename(tmp_path / "old")
    (tmp_path / "cache").mkdir()
    with pytest.raises(ModelNotFoundError, match="is gated"):
        offer("org/demo")
    assert not any((tmp_path / "cache").iterdir())
