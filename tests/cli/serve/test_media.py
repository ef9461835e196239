"""What a request may have read."""

import base64
import http.server
import socket
import threading

import pytest

from mlx_gemma4.cli.describe import fetch as fetching
from mlx_gemma4.cli.describe.fetch import fetch, is_public
from mlx_gemma4.cli.errors import InputError
from mlx_gemma4.cli.serve.errors import Refused
from mlx_gemma4.cli.serve.media import MediaRules
from mlx_gemma4.errors import MediaError


def status(rules: MediaRules, url: object) -> int:
    with pytest.raises(Refused) as error:
        rules.from_url("image", url, "messages[0]")
    assert error.value.param == "messages[0]"
    return error.value.status


def test_data_urls() -> None:
    data = base64.b64encode(b"picture").decode()
    rules = MediaRules()
    part = {"type": "image", "image": b"picture"}
    assert rules.from_url("image", f"data:image/png;base64,{data}", "x") == part
    assert rules.from_base64("image", data, "x") == part
    with pytest.raises(MediaError, match="base64 that is none"):
        rules.from_base64("audio", "!", "x")


@pytest.mark.parametrize("url", [None, "", 3, {"url": "data:,"}, ["data:,"]])
def test_what_is_no_url(url) -> None:
    assert status(MediaRules(), url) == 400


def test_files(tmp_path) -> None:
    """Of a folder, once its links are followed; others are not even told apart."""
    allowed, other = tmp_path / "pictures", tmp_path / "pictures2"
    for folder in (allowed, other):
        folder.mkdir()
        (folder / "a b.png").write_bytes(b"x")
    (allowed / "link.png").symlink_to(other / "a b.png")
    (allowed / "own.png").symlink_to(allowed / "a b.png")
    rules = MediaRules((allowed.resolve(),))
    for name in ("a b.png", "own.png"):
        part = rules.from_url("image", str(allowed / name), "x")
        assert part["image"].read_bytes() == b"x"
    url = f"file://{allowed}/a%20b.png"
    assert rules.from_url("image", url, "x")["image"].name == "a b.png"
    assert status(rules, str(allowed / "none.png")) == 400
    assert status(rules, str(allowed)) == 400
    denied = ("link.png", "../pictures2/a b.png", "../pictures2/none", "a\0b/../../..")
    for name in denied:
        assert status(rules, f"{allowed}/{name}") == 403
    assert status(rules, f"file://{allowed}/..%2fpictures2/a%20b.png") == 403
    assert status(rules, f"file://server{allowed}/own.png") == 400
    assert status(rules, "ftp://server/a.png") == 400
    assert status(MediaRules(), str(allowed / "own.png")) == 403


def test_the_web_only_where_it_is_allowed() -> None:
    assert status(MediaRules(), "http://example.com/a.png") == 403


def test_all_that_a_request_has_fetched_is_limited(monkeypatch) -> None:
    most: list[int] = []

    def fetched(url: str, largest: int, public: bool) -> bytes:
        most.append(largest)
        return b"picture"

    monkeypatch.setattr(fetching, "fetch", fetched)
    rules = MediaRules(urls=True)
    for each in (rules, rules, rules.anew()):
        each.from_url("image", "http://example.com/a.png", "x")
    assert most == [fetching.LARGEST, fetching.LARGEST - 7, fetching.LARGEST]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
def test_not_this_machine_by_the_web(host) -> None:
    """Whatever it would have answered: nothing is asked of it."""
    with http.server.HTTPServer(("127.0.0.1", 0), Seen) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            with pytest.raises(InputError, match="of this machine or network"):
                fetch(f"http://{host}:{server.server_port}/a.png", public=True)
        finally:
            server.shutdown()
            thread.join()
    assert not Seen.paths


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "169.254.169.254", "::1", "fe80::1%1", "fd00::1", "fec0::1"),
        *("224.0.0.1", "ff02::1", "::127.0.0.1", "::ffff:10.0.0.1"),
        *("64:ff9b::10.0.0.1", "2002:a00:1::"),
    ],
)
def test_addresses_that_are_not_public(address) -> None:
    assert not is_public(address)


def test_addresses_that_are_public() -> None:
    public = ("8.8.8.8", "2001:4860:4860::8888", "64:ff9b::8.8.8.8")
    assert all(map(is_public, public))


def test_what_listens_within_the_network_is_not_told() -> None:
    """An address is refused in the same words whether somebody listens there or not."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        with pytest.raises(InputError, match="of this machine or network"):
            fetch(f"http://127.0.0.1:{taken.getsockname()[1]}/", public=True)


class Seen(http.server.BaseHTTPRequestHandler):
    paths: list[str] = []

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass
