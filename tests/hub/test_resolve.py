"""Names of models. The Hub is played by a small server on this machine."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import tiny

from mlx_gemma4.errors import CheckpointError, ModelNotFoundError
from mlx_gemma4.hub.resolve import local_folder, resolve

SHA = "1" * 40
# Repository -> status and the Hub's error code. A gated one only refuses its files.
REFUSALS = {
    "org/gated": (403, "GatedRepo"),
    "org/absent": (401, "RepoNotFound"),
    "org/down": (503, ""),
}
FOREIGN = ("original/model.safetensors", "pytorch_model.bin", "model.gguf", "run.py")


class Hub(ThreadingHTTPServer):
    """Serves the files of one folder as org/tiny and refuses other names."""

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), Handler)
        contents = {file.name: file.read_bytes() for file in folder.iterdir()}
        self.contents = contents | dict.fromkeys(FOREIGN, b"?")
        self.requests: list[str] = []

    def tree(self) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": name, "size": len(data), "oid": name}
            for name, data in self.contents.items()
        ]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub = self.server
        assert isinstance(hub, Hub)
        hub.requests.append(self.path)
        path = self.path.partition("?")[0]
        repo = "/".join(path.removeprefix("/api/models").split("/")[1:3])
        status, code = REFUSALS.get(repo, (200, ""))
        if code == "GatedRepo" and "/resolve/" not in path:
            status = 200
        if status == 200 and path.endswith("/revision/old"):
            status, code = 404, "RevisionNotFound"
        if status != 200:
            self.answer(b"{}", status, {"X-Error-Code": code})
        elif "/revision/" in path:
            self.answer(json.dumps({"id": repo, "sha": SHA, "siblings": []}).encode())
        elif "/tree/" in path:
            self.answer(json.dumps(hub.tree()).encode())
        else:
            name = path.partition(f"/resolve/{SHA}/")[2]
            headers = {"X-Repo-Commit": SHA, "ETag": f'"{name.replace("/", "-")}"'}
            self.answer(hub.contents[name], headers=headers)

    do_HEAD = do_GET

    def answer(
        self, body: bytes, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    tiny.write_checkpoint(tmp_path / "served", "E2B", shards=2)
    server = Hub(tmp_path / "served")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


SCRIPT = """
import json, sys, warnings
from mlx_gemma4.hub.resolve import resolve
from mlx_gemma4.errors import ModelNotFoundError
for name in sys.argv[1:]:
    try:
        print(json.dumps(["found", str(resolve(name))]))
    except ModelNotFoundError as error:
        print(json.dumps(["error", str(error)]))
"""


def resolve_all(cache: Path, endpoint: str, *names: str, offline: str = "0") -> Any:
    """(found | error, text) of each name, in a process that reads the settings anew."""
    env = {
        **os.environ,
        "HF_HOME": str(cache),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_OFFLINE": offline,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1",
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *names],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def endpoint(hub: Hub) -> str:
    return f"http://127.0.0.1:{hub.server_port}"


@pytest.mark.slow
def test_a_download_and_then_the_cache(hub: Hub, tmp_path: Path) -> None:
    """Only the files that are needed come; the second time nothing is asked."""
    cache = tmp_path / "cache"
    (first,) = resolve_all(cache, endpoint(hub), "org/tiny")
    assert first[0] == "found", first
    folder = Path(first[1])
    expected = set(hub.contents) - set(FOREIGN)
    assert {p.name for p in folder.iterdir()} == expected
    asked = len(hub.requests)
    assert resolve_all(cache, endpoint(hub), "org/tiny", f"org/tiny@{SHA}") == [
        first,
        first,
    ]
    assert len(hub.requests) == asked
    assert resolve_all(cache, endpoint(hub), "org/tiny", offline="1") == [first]
    # A cache that other programs filled in part, without a listing, is completed.
    (folder / "model-00001-of-00002.safetensors").unlink()
    shutil.rmtree(folder.parent.parent / "trees")
    assert resolve_all(cache, endpoint(hub), "org/tiny") == [first]
    assert len(hub.requests) > asked
    assert {p.name for p in folder.iterdir()} == expected


def test_what_the_hub_refuses(hub: Hub, tmp_path: Path) -> None:
    names = ("org/gated", "org/absent", "org/tiny@old", "org/down")
    answers = resolve_all(tmp_path / "cache", endpoint(hub), *names)
    remedies = (
        "accept its licence at https://huggingface.co/org/gated and log in with "
        "`hf auth login`",
        "no folder here and not on the Hub, or it is private: check the spelling",
        "has no revision 'old'",
        "not complete in the local Hub cache",
    )
    for name, (kind, text), remedy in zip(names, answers, remedies, strict=True):
        assert kind == "error" and text.startswith(name.partition("@")[0])
        assert remedy in text and "\n" not in text


def test_no_network(tmp_path: Path) -> None:
    with socket.socket() as closed:  # a port nobody listens on
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
        (answer,) = resolve_all(tmp_path, nobody, "org/tiny")
        assert answer[0] == "error" and "check the network" in answer[1]
        (answer,) = resolve_all(tmp_path, nobody, "org/tiny", offline="1")
        assert answer[0] == "error" and "HF_HUB_OFFLINE is set" in answer[1]


def test_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="has no config.json"):
        resolve(tmp_path)
    folder = tmp_path / "org" / "name"
    tiny.write_checkpoint(folder, "E2B")
    assert resolve(folder) == resolve(str(folder)) == folder
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name") == Path("org/name")  # before any Hub id
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/org/name") == folder
    with pytest.raises(ModelNotFoundError, match="is a file: give the folder"):
        resolve(folder / "config.json")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "gemma",
        "./org/name",
        "../name",
        "~/no/name",
        "/no/name",
        "a/b/c",
        "a/b@",
        "é/b",
    ],
)
def test_names_that_cannot_be_a_model(name: str) -> None:
    with pytest.raises((ModelNotFoundError, CheckpointError)) as caught:
        resolve(name)
    assert "config.json" in str(caught.value) if not name else name in str(caught.value)


def test_the_demo(
    demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve("demo") == demo_folder
    (tmp_path / "demo").mkdir()  # any folder of that name is not yet a model
    assert resolve("demo") == demo_folder
    tiny.write_checkpoint(tmp_path / "demo", "E2B")
    assert resolve("demo") == Path("demo")


def test_what_needs_no_download(tmp_path: Path, demo_folder: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert local_folder(str(tmp_path)) == tmp_path
    assert local_folder("demo") == demo_folder
    assert local_folder("org/never-downloaded") is None


@pytest.mark.parametrize("name", ["no/such/folder", "../x/y"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ModelNotFoundError):
        local_folder(name)
