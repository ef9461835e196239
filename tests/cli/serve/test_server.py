"""The server as a whole, on the demo model."""

from collections.abc import Iterator

import pytest
from serving import Served, demo, served


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(demo) as running:
        yield running


def question(text: str) -> dict:
    return {"messages": [{"role": "user", "content": text}]}


def test_answers(server):
    reply = server.ask(
        "POST", "/v1/chat/completions", question("What is the capital of France?")
    )
    assert reply.status == 200
    said = reply.json()["choices"][0]
    assert said["message"]["content"] == "The capital of France is Paris."
    assert said["finish_reason"] == "stop"


def test_nothing_there(server):
    reply = server.ask("GET", "/v1/nothing")
    assert reply.status == 404
    assert "/v1/models" in reply.json()["error"]["message"]
