"""What clients do wrong, by chance or on purpose: the server says so and goes on.

Each request gets one whole reply, none of them tells of the server's own failure, and
the next one is answered as ever.
"""

import copy
import json
import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from serving import Served, demo, served
from told import Told, said

from mlx_gemma4 import Chunk, ToolCall
from mlx_gemma4.cli.serve.engine import Asked

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"name": "get_weather", "description": "Weather.", "parameters": CITY}
PIXEL = "data:image/png;base64,iVBORw0KGgo="
CHAT = {
    "model": "any",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello."}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": "{}"},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": PIXEL}}],
        },
    ],
    "tools": [{"type": "function", "function": WEATHER}],
    "tool_choice": "auto",
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.5,
    "max_tokens": 10,
    "stop": ["x"],
    "logit_bias": {"5": 1},
    "response_format": {"type": "text"},
    "reasoning_effort": "low",
}
RESPONSES = {
    "model": "any",
    "instructions": "Be brief.",
    "input": [
        {"type": "message", "role": "user", "content": "Hello."},
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "Hm."}],
            "encrypted_content": "SG0u",
        },
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "sunny"},
        {
            "role": "user",
            "content": [{"type": "input_image", "image_url": PIXEL}],
        },
    ],
    "tools": [
        {"type": "function", **WEATHER},
        {"type": "custom", "name": "patch", "format": {"type": "text"}},
        {"type": "namespace", "name": "a", "tools": [{"type": "function", **WEATHER}]},
        {"type": "web_search"},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [WEATHER]},
    "stream": True,
    "reasoning": {"effort": "low", "summary": "auto"},
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "include": ["reasoning.encrypted_content"],
    "metadata": {"a": "b"},
}
MESSAGES = {
    "model": "any",
    "max_tokens": 10,
    "system": [{"type": "text", "text": "Be brief."}],
    "messages": [
        {"role": "user", "content": "Hello."},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "SG0u"},
                {"type": "tool_use", "id": "1", "name": "get_weather", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": "sunny"},
                {"type": "text", "text": "And?"},
            ],
        },
    ],
    "tools": [{"name": "get_weather", "description": "W.", "input_schema": CITY}],
    "tool_choice": {"type": "auto"},
    "thinking": {"type": "disabled"},
    "stop_sequences": ["x"],
    "stream": True,
    "metadata": {"user_id": "a"},
}
SERVED: dict[str, dict[str, Any]] = {
    "/chat/completions": CHAT,
    "/completions": {"prompt": "Once", "max_tokens": 5, "stream": True, "stop": "x"},
    "/responses": RESPONSES,
    "/messages": MESSAGES,
    "/messages/count_tokens": {k: MESSAGES[k] for k in ("model", "messages", "tools")},
}
JUNK: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 10**400, "", "x", "auto", "\ud800", "\0"),
    *([], [[]], [None], {}, {"type": None}, {"type": ["text"]}, {"": {}}),
    *("data:image/png;base64,%%%", "file:///etc/passwd", "http://127.0.0.1/x"),
]


def places(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """The paths to everything within a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        yield (*at, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*at, key))


def spoiled(body: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """`body` with junk in one place or two, or without something."""
    body = copy.deepcopy(body)
    for _ in range(rng.randint(1, 2)):
        *way, last = rng.choice(list(places(body)))
        inside: Any = body
        for key in way:
            inside = inside[key]
        if isinstance(inside, dict) and rng.random() < 0.2:
            del inside[last]
        else:
            inside[last] = rng.choice(JUNK)
        if not body:
            break
    return body


def echo(asked: Asked) -> list[Chunk]:
    """Says the last words it was given, and calls a tool where there is one."""
    content = (asked.messages or [{}])[-1].get("content")
    call = Chunk("", 1, tool_calls=(ToolCall("get_weather", {"city": "Rome"}),))
    calls = [call] if asked.tools and asked.tool_choice != "none" else []
    return said(Chunk(f"You said: {content}", 1), *calls)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(lambda: Told(echo), log=True) as running:
        yield running


def exchanged(server: Served, data: bytes) -> bytes:
    """All that comes back for what is sent, until the server closes."""
    host, port = server.server.server_address[:2]
    with socket.create_connection((str(host), int(port)), timeout=60) as client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has said no already
        found = b""
        while more := client.recv(1 << 16):
            found += more
    return found


def well(server: Served) -> None:
    """The next request is answered as ever."""
    asked = {"messages": [{"role": "user", "content": "still there?"}]}
    reply = server.ask("POST", "/v1/chat/completions", asked)
    assert reply.status == 200
    said = reply.json()["choices"][0]["message"]["content"]
    assert said == "You said: still there?"


def check(status: int, data: bytes, streams: bool, what: object) -> None:
    """A whole reply, which is the client's fault if anybody's."""
    assert status in (200, 400, 401, 403, 404, 405, 411, 413, 415), (what, data)
    if streams:
        lines = data.decode().split("\n\n")
        assert lines[-1] == "", (what, data)
        events = [e.partition("data: ")[2] for e in lines if "data: " in e]
        assert all(e == "[DONE]" or json.loads(e) for e in events), (what, data)
        assert "server_error" not in data.decode(), (what, data)
        assert "api_error" not in data.decode(), (what, data)
    else:
        assert isinstance(json.loads(data), dict), (what, data)


@pytest.mark.parametrize("path", SERVED)
def test_bodies_that_are_wrong_somewhere(
    server: Served, path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(path)
    statuses = set()
    for _ in range(100):
        body = spoiled(SERVED[path], rng)
        reply = server.ask("POST", f"/v1{path}", body)
        streams = "event-stream" in reply.headers["content-type"]
        check(reply.status, reply.data, streams, body)
        statuses.add(reply.status)
    assert {200, 400} <= statuses
    well(server)
    noted = capfd.readouterr().err
    assert "Traceback" not in noted and "Error:" not in noted, noted


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
RAW = [
    b"",
    b"\r\n\r\n",
    b"\0\xff\xfe\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/x\r\n\r\n",
    b"BREW /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost localhost\r\n\r\n",
    b"GET " + b"/x" * 40_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    b"GET /v1/%00%ff/../.. HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost: [::1\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil\r\n\r\n",
    HEAD + b"\r\n{}",
    HEAD + b"Content-Length: -1\r\n\r\n",
    HEAD + b"Content-Length: 1e3\r\n\r\n",
    HEAD + b"Content-Length: 99999999999999999999\r\n\r\n",
    HEAD + b"Content-Length: 999999999\r\n\r\n{}",
    HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    HEAD + b"Content-Length: 100\r\n\r\n{}",
    HEAD + b"Content-Length: 2\r\n\r\n[]",
    HEAD + b"Content-Length: 3\r\n\r\n\xff\xfe\xfd",
    HEAD + b"Content-Length: 3\r\n\r\nNaN",
    HEAD + b"Content-Length: 8\r\n\r\n" + b'{"a":1,}',
    HEAD + b"Content-Length: 100000\r\n\r\n" + b"[" * 100_000,
    HEAD + b"Content-Type: multipart/form-data\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
    HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
    CHUNKED + b"zz\r\n",
    CHUNKED + b"-2\r\n{}\r\n",
    CHUNKED + b"2\r\n{}XX\r\n",
    CHUNKED + b"ffffffffffffffff\r\n",
    CHUNKED + b"2\r\n{",
    CHUNKED + b"2;" + b"x" * 5000 + b"\r\n{}\r\n0\r\n\r\n",
]


def test_requests_that_are_none(
    server: Served, capfd: pytest.CaptureFixture[str]
) -> None:
    for data in RAW:
        reply = exchanged(server, data)
        if not reply:
            continue  # it broke off, and there was nobody to tell
        head, _, body = reply.partition(b"\r\n\r\n")
        if b" 100 Continue" in head:
            head, _, body = body.partition(b"\r\n\r\n")
        version, status = head.split(b" ")[:2]
        assert (
            version == b"HTTP/1.1"
            and 400 <= int(status) < 500
            or status in (*(b"501", b"505"),)
        ), (data[:100], reply)
        assert json.loads(body)["error"]["message"], data[:100]
    well(server)
    assert "Traceback" not in capfd.readouterr().err


def test_a_client_that_speaks_tls(server: Served) -> None:
    reply = exchanged(server, b"\x16\x03\x01 \x02 hello\r\n\r\n")
    assert b"speaks http, not https" in reply


class Endless(Told):
    """Speaks until nobody listens any more."""

    def __init__(self) -> None:
        super().__init__(self.speak)
        self.left = threading.Event()

    def speak(self, asked: Asked) -> Iterator[Chunk]:
        if (asked.messages or [{}])[-1].get("content") == "still there?":
            yield from echo(asked)
            return
        try:
            while True:
                yield Chunk("word " * 100, 1)
        finally:
            self.left.set()


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("path", [path for path in SERVED if "count" not in path])
def test_nobody_waits_for_the_answer(path: str, streams: bool) -> None:
    engine = Endless()
    with served(lambda: engine) as server:
        host, port = server.server.server_address[:2]
        body = json.dumps({**SERVED[path], "stream": streams}).encode()
        head = f"POST /v1{path} HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        with socket.create_connection((str(host), int(port)), timeout=60) as client:
            client.sendall(head.encode() + body)
            if streams:
                assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert engine.left.wait(60)
        well(server)


def test_clients_that_dawdle_keep_nobody_waiting() -> None:
    engine = Endless()
    with served(lambda: engine) as server:
        host, port = server.server.server_address[:2]
        begun = [b"", HEAD, HEAD + b"Content-Length: 50\r\n\r\n{", CHUNKED + b"2\r\n"]
        clients = [
            socket.create_connection((str(host), int(port)), timeout=60) for _ in begun
        ]
        for client, data in zip(clients, begun, strict=True):
            client.sendall(data)
        well(server)
        for client in clients:
            client.close()


def test_many_at_once(server: Served) -> None:
    """Each gets its own answer, whatever it speaks."""

    def ask(number: int) -> bool:
        words = f"number {number}"
        if number % 2:
            body = {"messages": [{"role": "user", "content": words}]}
            reply = server.ask("POST", "/v1/chat/completions", body).json()
            text = reply["choices"][0]["message"]["content"]
        else:
            reply = server.ask("POST", "/v1/responses", {"input": words}).json()
            text = reply["output"][0]["content"][0]["text"]
        return text == f"You said: {words}"

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(ask, range(40)))


@pytest.mark.slow
def test_many_at_once_on_a_model() -> None:
    facts = [("France", "Paris"), ("Spain", "Madrid"), ("Italy", "Rome")]

    with served(demo) as server:

        def ask(number: int) -> bool:
            country, city = facts[number % 3]
            body = {"input": f"What is the capital of {country}?"}
            reply = server.ask("POST", "/v1/responses", body).json()
            text = reply["output"][0]["content"][0]["text"]
            return text == f"The capital of {country} is {city}."

        with ThreadPoolExecutor(20) as pool:
            assert all(pool.map(ask, range(20)))


def test_characters_that_were_cut_in_half(server: Served) -> None:
    """JavaScript cuts texts between the two halves of an emoji."""
    body = b'{"messages": [{"role": "user", "content": "\\ud83d\\ude00 \\ud83d"}]}'
    reply = server.ask("POST", "/v1/chat/completions", body)
    assert reply.json()["choices"][0]["message"]["content"] == "You said: 😀 \ufffd"
