"""Pictures from the web for `gemma4 describe`, and what servers may answer."""

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest
from pictures import RED, png

from mlx_gemma4.cli.describe.fetch import fetch
from mlx_gemma4.cli.errors import InputError
from mlx_gemma4.cli.files import MediaArgument
from mlx_gemma4.errors import MediaError


class Server(http.server.BaseHTTPRequestHandler):
    """Answers by path; `/wait` says nothing until `done` is set."""

    done = threading.Event()
    agents: list[str] = []

    def do_GET(self) -> None:
        self.agents.append(self.headers["User-Agent"])
        if self.path == "/wait":
            self.done.wait(20)
        headers, body = {
            "/a.png": ({"Content-Type": "image/png"}, png()),
            "/untyped": ({"Server": "old"}, png()),
            "/misnamed": ({"Content-Type": "png"}, png()),
            "/untyped-page": ({"Server": "old"}, b"<html>"),
            "/page": ({"Content-Type": "text/html"}, b"<html>"),
            "/cut": ({"Content-Type": "image/png", "Content-Length": "99"}, b"12"),
            "/large": ({"Content-Type": "image/png", "Content-Length": "9999"}, b""),
            "/endless": ({"Content-Type": "image/png"}, bytes(9999)),
            "/%C3%BC%20b.png?q=%2F": ({"Content-Type": "image/png"}, png()),
            "/moved": ({"Location": "/a.png"}, b""),
            "/ftp": ({"Location": "ftp://host/a.png"}, b""),
            "/file": ({"Location": "file:///etc/hosts"}, b""),
        }.get(self.path, ({}, b""))
        self.send_response(302 if "Location" in headers else 200 if headers else 404)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "*")
    Server.done.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        Server.done.set()
        server.shutdown()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        "/a.png",
        "/moved",
        "/untyped",
        "/misnamed",
        "/%C3%BC%20b.png?q=%2F",
        "/ü b.png?q=%2F#x",
    ],
)
def test_a_picture_from_the_web(server, path):
    assert fetch(server + path) == png()
    assert Server.agents[-1].startswith("gemma4/")
    assert MediaArgument(server + path).part({})["image"].getpixel((0, 0)) == RED


def test_a_page_that_bears_no_type(server):
    with pytest.raises(MediaError, match="/untyped-page: .* is a web page, not a"):
        MediaArgument(f"{server}/untyped-page").part({})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/gone", "the server says 404"),
        ("/page", "is text/html, neither a picture nor a video"),
        ("/cut", "the connection broke off"),
        ("/large", "is larger than 0.001 MB"),
        ("/endless", "is larger than 0.001 MB"),
        ("/ftp", "redirects away from the web"),
        ("/file", "file:///etc/hosts"),
        ("/wait", "no answer for 0.3 s|timed out"),
    ],
)
def test_what_the_web_may_answer(server, path, told):
    with pytest.raises(InputError, match=told) as caught:
        fetch(server + path, largest=1000, wait=0.3 if path == "/wait" else 20)
    assert str(caught.value).startswith(server + path)


def test_a_download_that_takes_too_long(server):
    with pytest.raises(InputError, match="not complete after -1 s"):
        fetch(f"{server}/a.png", longest=-1)


def test_a_server_that_is_not_there(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    told = r"cannot be fetched: Connection refused\. Check"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=told):
            fetch(f"http://127.0.0.1:{port}/a.png")


@pytest.mark.parametrize("url", ["http://", "http://[", "http://a b/c", "https://h:x/"])
def test_urls_that_are_none(url):
    with pytest.raises(InputError, match="cannot be fetched"):
        fetch(url)
