"""A Hugging Face Hub on this machine, for tests of what is fetched, and when it fails.

It answers what the Hub's client asks: what a repository is, which files of which size
it holds, and the files, in ranges. As at the Hub, large files are redirected to a
storage of another name. `hub.requests` is what was asked, `hub.sent` how much of each
file went out.
"""

import hashlib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_simulated"
LARGE = (".safetensors", ".bin", ".gguf", "tokenizer.json")  # stored as LFS files
PIECE = 1 << 16  # bytes that are sent at a time


@dataclass(frozen=True)
class Hollow:
    """A file that is listed with a size, and that nobody may fetch."""

    size: int

    def __len__(self) -> int:
        return self.size


Contents = bytes | Hollow


@dataclass
class Repo:
    """commits: the files of each; `main` is the last one."""

    commits: dict[str, dict[str, Contents]] = field(default_factory=dict)
    gated: bool = False
    license: str = "apache-2.0"
    refusal: tuple[int, str] | None = None  # status, error code; of every answer

    @property
    def main(self) -> str:
        return list(self.commits)[-1]

    def commit(self, files: dict[str, Contents]) -> str:
        """Moves `main` on; older commits are still served."""
        sha = hashlib.sha1(str(len(self.commits)).encode()).hexdigest()
        self.commits[sha] = files
        return sha


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    host: str
    range: str | None
    token: str | None


class Hub(ThreadingHTTPServer):
    """stall: the file that stops coming after so many bytes, until `resume` is set.
    cut: connections that break after so many bytes of a file, one for each entry.
    pause: seconds before each piece of a file."""

    daemon_threads = True
    block_on_close = False  # a body that stalls would keep it open

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Repo] = {}
        self.requests: list[Request] = []
        self.sent: Counter[str] = Counter()  # bytes of each file's contents
        self.stall: dict[str, int] = {}
        self.stalled, self.resume = threading.Event(), threading.Event()
        self.cut: dict[str, list[int]] = {}
        self.pause = 0.0
        self.lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def storage(self) -> str:
        """Another host, as far as a client can tell."""
        return f"http://localhost:{self.server_port}"

    def add(self, name: str, files: dict[str, Contents] | Path, **about: Any) -> Repo:
        """A repository with its first commit."""
        if isinstance(files, Path):
            files = {
                file.name: file.read_bytes()
                for file in files.iterdir()
                if file.is_file()
            }
        self.repos[name] = Repo(**about)
        self.repos[name].commit(files)
        return self.repos[name]

    def environ(self, home: Path) -> dict[str, str]:
        """What lets a process use it, with its cache in `home`."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # clients are killed
            super().handle_error(request, client_address)

    def fetched(self) -> int:
        """The bytes of all files that went out."""
        with self.lock:
            return sum(self.sent.values())


@contextmanager
def serving() -> Iterator[Hub]:
    """A Hub without repositories, until the end of the context."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.resume.set()
        hub.shutdown()
        hub.server_close()
        thread.join()


@cache
def identity(name: str, data: Contents) -> str:
    """The ETag, which is also the name in the client's cache."""
    if isinstance(data, Hollow):
        return hashlib.sha256(f"{name}{data.size}".encode()).hexdigest()
    if name.endswith(LARGE):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def listed(name: str, data: Contents) -> dict[str, Any]:
    """A file in the answer for a tree."""
    entry = {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
    if not name.endswith(LARGE):
        return entry | {"oid": identity(name, data)}
    lfs = {"oid": identity(name, data), "size": len(data), "pointerSize": 134}
    return entry | {"lfs": lfs}


def sibling(name: str, data: Contents) -> dict[str, Any]:
    """A file in the answer for a model."""
    entry = listed(name, data)
    about = {"rfilename": name, "size": len(data), "blobId": entry["oid"]}
    if "lfs" in entry:
        about["lfs"] = entry["lfs"] | {"sha256": entry["lfs"]["oid"]}
    return about


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # which delays what comes in two pieces

    @property
    def hub(self) -> Hub:
        assert isinstance(self.server, Hub)
        return self.server

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        words = [unquote(word) for word in path.strip("/").split("/")]
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ") or None
        asked = Request(
            self.command, self.path, self.headers["Host"], self.headers["Range"], token
        )
        with self.hub.lock:
            self.hub.requests.append(asked)
        with suppress(ConnectionError):
            if words[0] == "storage":
                self.send_stored(words[1])
            elif words[:2] == ["api", "models"]:
                self.send_about("/".join(words[2:4]), words[4:])
            elif words[2:3] != ["resolve"]:
                self.refuse(404, "")
            else:
                self.send_resolved("/".join(words[:2]), words[3], "/".join(words[4:]))

    do_HEAD = do_GET

    def known(self, name: str, revision: str) -> tuple[Repo, str] | None:
        """Repository and commit, or None after a refusal."""
        repo = self.hub.repos.get(name)
        if repo is None:
            self.refuse(401, "RepoNotFound")
        elif repo.refusal is not None:
            self.refuse(*repo.refusal)
        else:
            sha = repo.main if revision == "main" else revision
            if sha in repo.commits:
                return repo, sha
            self.refuse(404, "RevisionNotFound")
        return None

    def send_about(self, name: str, words: list[str]) -> None:
        """`/api/models/org/name[/revision/R]` and `…/tree/R`."""
        found = self.known(name, words[1] if len(words) > 1 else "main")
        if found is None:
            return
        repo, sha = found
        files = repo.commits[sha].items()
        if words[:1] == ["tree"]:
            self.send_json([listed(*file) for file in files])
            return
        self.send_json(
            {
                "id": name,
                "sha": sha,
                "gated": "manual" if repo.gated else False,
                "cardData": {"license": repo.license},
                "tags": [f"license:{repo.license}"],
                "siblings": [sibling(*file) for file in files],
            }
        )

    def send_resolved(self, name: str, revision: str, path: str) -> None:
        """`/org/name/resolve/R/FILE`."""
        found = self.known(name, revision)
        if found is None:
            return
        repo, sha = found
        if repo.gated and self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.refuse(401, "GatedRepo")
            return
        data = repo.commits[sha].get(path)
        if data is None:
            self.refuse(404, "EntryNotFound")
            return
        etag = f'"{identity(path, data)}"'
        about = {"X-Repo-Commit": sha}
        if not path.endswith(LARGE):
            self.send_file(path, data, about | {"ETag": etag})
            return
        stored = "/".join(("storage", f"{name}/{sha}/{path}".replace("/", "%2F")))
        about |= {"X-Linked-ETag": etag, "X-Linked-Size": str(len(data))}
        about |= {"Location": f"{self.hub.storage}/{stored}"}
        self.start(302, about | {"Content-Length": "0"})

    def send_stored(self, place: str) -> None:
        owner, name, sha, path = place.split("/", 3)
        data = self.hub.repos[f"{owner}/{name}"].commits[sha][path]
        self.send_file(path, data, {"ETag": f'"{identity(path, data)}"'})

    def send_file(self, path: str, data: Contents, about: dict[str, str]) -> None:
        """Whole, or the range that was asked for."""
        begin, end, status = 0, len(data), 200
        if span := self.headers["Range"]:
            first, _, last = span.removeprefix("bytes=").partition("-")
            begin = int(first) if first else max(0, end - int(last))
            end = min(end, int(last) + 1) if first and last else end
            status = 206
            about = about | {"Content-Range": f"bytes {begin}-{end - 1}/{len(data)}"}
        if begin >= end and span:
            self.start(416, {"Content-Range": f"bytes */{len(data)}"})
            return
        about = about | {"Content-Length": str(end - begin), "Accept-Ranges": "bytes"}
        self.start(status, about)
        if self.command == "GET":
            assert not isinstance(data, Hollow), f"{path} is not to be fetched"
            self.send_body(path, data, begin, end)

    def send_body(self, path: str, data: bytes, begin: int, end: int) -> None:
        hub = self.hub
        broken = hub.cut[path].pop(0) if hub.cut.get(path) else None
        while begin < end:
            if broken is not None and begin >= broken:
                self.close_connection = True
                return
            if begin >= hub.stall.get(path, end):
                hub.stalled.set()
                hub.resume.wait()
            time.sleep(hub.pause)
            limits = (begin + PIECE, end, broken, hub.stall.get(path))
            upto = min(limit for limit in limits if limit is not None and limit > begin)
            with hub.lock:  # before a client has it, and may ask for the sum
                hub.sent[path] += upto - begin
            self.wfile.write(data[begin:upto])
            begin = upto

    def send_json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.start(
            200, {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        )
        if self.command == "GET":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        self.start(status, {"X-Error-Code": code, "Content-Length": "0"})

    def start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass
