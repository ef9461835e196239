"""The server as a whole: requests and replies as they go over the wire."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving import Served, demo, served
from told import Told, said

from mlx_gemma4 import Chunk
from mlx_gemma4.cli.serve import exchange, handler
from mlx_gemma4.cli.serve.engine import Asked
from mlx_gemma4.cli.serve.guard import Guard
from mlx_gemma4.decoding.batch import Batch
from mlx_gemma4.device import Room
from mlx_gemma4.generation import loop

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "Hello."}]}
PAGE = {"Origin": "http://localhost:3000"}


def rule(asked: Asked) -> list[Chunk]:
    return said(Chunk("Good ", 1), Chunk("day.", 2))


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    guard = Guard(origins=frozenset({PAGE["Origin"]}))
    with served(lambda: Told(rule), guard) as running:
        yield running


def raw(server: Served, *parts: bytes) -> bytes:
    """All that comes back for what is sent, in parts."""
    with socket.create_connection(server.server.server_address[:2], 30) as connection:
        for part in parts:
            connection.sendall(part)
        found = b""
        while piece := connection.recv(65536):
            found += piece
        return found


def head(path: str = CHAT, **more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def test_paths(server) -> None:
    """With /v1, without it and with it twice, and whatever stands behind the `?`."""
    for path in ("/v1/models", "/models", "/v1/v1/models/", "/v1/models?beta=true"):
        assert server.ask("GET", path).json()["data"][0]["id"] == "told"
    assert server.ask("GET", "/v1/models/told").json()["max_model_len"] == 100_000
    assert server.ask("GET", "/v1/models/other").status == 404
    assert server.ask("GET", "/health").json() == {"status": "ok"}


def test_what_is_not_there(server) -> None:
    reply = server.ask("GET", "/v1/nothing")
    assert reply.status == 404
    message = reply.json()["error"]["message"]
    assert "/v1/models" in message and "/v1/models/," not in message
    for path in ("/", "/v1"):
        message = server.ask("GET", path).json()["error"]["message"]
        assert message.startswith("Nothing is served at this address alone; there are")
    reply = server.ask("DELETE", "/v1/models")
    assert (reply.status, reply.json()["error"]["type"]) == (
        405,
        "invalid_request_error",
    )


def test_only_the_head(server) -> None:
    reply = server.ask("HEAD", "/v1/models")
    assert reply.status == 200 and not reply.data
    assert int(reply.headers["content-length"]) > 0


def test_a_body_in_chunks(server) -> None:
    body = json.dumps(HELLO).encode()
    pieces = b"".join(b"%x;a=b\r\n%b\r\n" % (5, body[i : i + 5]) for i in (0, 5))
    rest = b"%x\r\n%b\r\n0\r\nTrailer: x\r\n\r\n" % (len(body) - 10, body[10:])
    found = raw(server, head(Transfer_Encoding="chunked"), pieces, rest)
    assert found.startswith(b"HTTP/1.1 200 OK\r\n") and b"Good day." in found
    for wrong in (b"-5\r\n", b"zz\r\n", b"5\r\nabcdefgh\r\n"):
        found = raw(server, head(Transfer_Encoding="chunked"), wrong)
        assert found.startswith(b"HTTP/1.1 400 ")


def test_a_body_that_is_announced(server) -> None:
    """Only one that is wanted is asked for."""
    body = json.dumps(HELLO).encode()
    size = str(len(body))
    asked = head(Content_Length=size, Expect="100-continue")
    found = raw(server, asked, body)
    assert found.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
    asked = head("/v1/nothing", Content_Length=size, Expect="100-continue")
    assert raw(server, asked).startswith(b"HTTP/1.1 404 ")


def test_a_body_that_is_too_large(server) -> None:
    """The reply comes although the client is still sending."""
    size = exchange.LARGEST + 1
    found = raw(server, head(Content_Length=str(size)), b"x" * 1_000_000)
    assert found.startswith(b"HTTP/1.1 413 ") and b"larger than 100 MB" in found


def test_a_web_page_that_is_let_in(server) -> None:
    asked = {"Access-Control-Request-Headers": "authorization", **PAGE}
    reply = server.ask("OPTIONS", CHAT, headers=asked)
    assert reply.status == 204
    assert reply.headers["access-control-allow-headers"] == "authorization"
    reply = server.ask("POST", CHAT, HELLO, PAGE)
    assert reply.headers["access-control-allow-origin"] == PAGE["Origin"]
    reply = server.ask("POST", CHAT, HELLO, {"Origin": "http://evil.com"})
    assert reply.status == 403
    assert "access-control-allow-origin" not in reply.headers


def test_an_old_client(server) -> None:
    """One of HTTP/1.0 gets a stream without chunks."""
    body = json.dumps({**HELLO, "stream": True}).encode()
    lines = f"POST {CHAT} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    found = raw(server, lines.encode() + body)
    assert b"chunked" not in found and found.endswith(b"\n\ndata: [DONE]\n\n")


@pytest.mark.parametrize("streams", [False, True])
def test_an_error_in_the_middle(streams) -> None:
    """A stream that has begun ends with it; what failed is not told to clients."""

    def failing(asked: Asked) -> Iterator[Chunk]:
        yield Chunk("Good ", 1)
        raise RuntimeError("secret of the house")

    with served(lambda: Told(failing)) as server:
        reply = server.ask("POST", CHAT, {**HELLO, "stream": streams})
        assert reply.status == (200 if streams else 500)
        assert b"The server failed" in reply.data and b"secret" not in reply.data
        assert server.ask("GET", "/health").status == 200


def test_a_long_prompt_says_that_it_is_read(monkeypatch) -> None:
    monkeypatch.setattr(exchange, "LOOK", 0.01)
    monkeypatch.setattr(exchange, "QUIET", 0.02)
    go_on = threading.Event()

    def slow(asked: Asked) -> Iterator[Chunk]:
        server.engine.progress(512, 2048)
        go_on.wait(30)
        yield from rule(asked)

    with served(lambda: Told(slow)) as server:
        body = json.dumps({**HELLO, "stream": True}).encode()
        address = server.server.server_address[:2]
        with socket.create_connection(address, 30) as connection:
            connection.sendall(head(Content_Length=str(len(body))) + body)
            found = b""
            while b": 512 of 2048 tokens\n\n" not in found:
                assert (piece := connection.recv(4096))
                found += piece
            go_on.set()
            while piece := connection.recv(4096):
                found += piece
        assert b'"Good "' in found and b"data: [DONE]" in found


@pytest.mark.parametrize("behind", [b"", b"\r\n"])
@pytest.mark.parametrize("streams", [False, True])
def test_a_client_that_leaves(streams, behind, monkeypatch) -> None:
    """Its answer ends, in the middle of the prompt too, and the next one is served."""
    monkeypatch.setattr(exchange, "LOOK", 0.01)
    begun, ended = threading.Event(), threading.Event()

    def endless(asked: Asked) -> Iterator[Chunk]:
        if "max_tokens" in asked.options:
            yield from rule(asked)
            return
        try:
            while True:
                begun.set()
                server.engine.progress(1, 2)
        finally:
            ended.set()

    with served(lambda: Told(endless)) as server:
        body = json.dumps({**HELLO, "stream": streams}).encode()
        address = server.server.server_address[:2]
        with socket.create_connection(address, 30) as connection:
            connection.sendall(head(Content_Length=str(len(body))) + body + behind)
            assert begun.wait(30)
        assert ended.wait(30)
        assert server.ask("POST", CHAT, {**HELLO, "max_tokens": 5}).status == 200


def test_a_head_that_never_ends(monkeypatch) -> None:
    """Whoever it is from, a key or none: little by little is not in time."""
    monkeypatch.setattr(handler, "PATIENCE", 0.2)
    with served(lambda: Told(rule)) as server:
        address = server.server.server_address[:2]
        with socket.create_connection(address, 30) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nX: ")
            connection.settimeout(0.05)
            for _ in range(1000):
                try:
                    connection.sendall(b"x")
                    assert connection.recv(1) == b""
                    break
                except TimeoutError:
                    continue
                except ConnectionError:
                    break
            else:
                pytest.fail("It is still listened to.")


def has_posted(line: str) -> bool:
    return "POST" in line


def test_a_line_for_each_reply(capsys) -> None:
    with served(lambda: Told(rule), log=True) as server:
        server.ask("POST", CHAT, HELLO)
        raw(server, b"GET /v1/\x1b[31m HTTP/1.1\r\n\r\n")
        server.server.wait()
    # A client has its reply before there is a line of it.
    unknown, answered = sorted(capsys.readouterr().err.splitlines(), key=has_posted)
    assert f"POST {CHAT} 200 · 20 (8 cached) + 3 tokens · " in answered
    assert "404" in unknown and "\x1b" not in unknown


@pytest.mark.slow
def test_clients_that_memory_has_no_room_for_at_once(monkeypatch) -> None:
    """They wait for one another, and each gets the answer that it would get alone."""
    step, crowds = Batch.step, set()

    def watched(batch: Batch) -> list:
        crowds.add(len(batch) - len(batch._held_up))
        return step(batch)

    monkeypatch.setattr(Batch, "step", watched)
    limit = {"max_tokens": 8}
    texts = ["Hi", "Who wrote Emma?", "Name a colour.", "Hello there!"]
    each = [{**limit, "messages": [{"role": "user", "content": t}]} for t in texts]

    with served(demo) as server:

        def ask(body: object) -> str:
            reply = server.ask("POST", CHAT, body)
            assert reply.status == 200
            return reply.json()["choices"][0]["message"]["content"]

        alone = [ask(body) for body in each]
        monkeypatch.setattr(loop, "room_of", lambda model: Room(0, 0))
        crowds.clear()
        with ThreadPoolExecutor(len(each)) as clients:
            assert [*clients.map(ask, each)] == alone
    assert crowds - {0} == {1}
