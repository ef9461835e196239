"""Anthropic's API, request by request."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from scripted import chunks
from scripted_engine import ScriptedEngine, calls, thought
from serving import Served, demo, served

from mlx_gemma4 import Chunk
from mlx_gemma4.chat.calls import ToolCall
from mlx_gemma4.cli.api.messages.reply import Reply
from mlx_gemma4.cli.serve.guard import Guard

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(demo) as running:
        yield running


def body(messages: list[Any] = QUESTION, **fields: Any) -> dict[str, Any]:
    return {"model": "any", "max_tokens": 60, "messages": messages, **fields}


def events(data: bytes) -> list[dict[str, Any]]:
    """Those of a stream, each checked to be named as it says it is."""
    found = []
    for written in data.decode().strip().split("\n\n"):
        if written.startswith(":"):
            continue
        name, told = written.split("\n")
        found.append(json.loads(told.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def kinds(told: list[dict[str, Any]]) -> list[str]:
    return [event.get("delta", event).get("type", event["type"]) for event in told]


def test_a_stream_tells_its_blocks_in_order():
    answer = [
        *(thought("Hm, "), thought("Rome."), Chunk("Let me ", 1), Chunk("see.", 1)),
        calls(ToolCall("look", {"city": "Rome"}), ToolCall("look", {})),
        *chunks("", finish_reason="tool_calls"),
    ]
    with served(lambda: ScriptedEngine(answer)) as running:
        streamed = running.ask("POST", "/v1/messages", body(stream=True))
        whole = running.ask("POST", "/v1/messages", body()).json()
    assert streamed.headers["content-type"].startswith("text/event-stream")
    told = events(streamed.data)
    block = ["content_block_start", "content_block_stop"]
    assert kinds(told) == [
        "message_start",
        *(block[0], "thinking_delta", "thinking_delta", "signature_delta", block[1]),
        *(block[0], "text_delta", "text_delta", block[1]),
        *(block[0], "input_json_delta", block[1]),
        *(block[0], "input_json_delta", block[1]),
        "message_delta",
        "message_stop",
    ]
    assert told[0]["message"]["content"] == []
    assert told[1]["content_block"] == {
        "type": "thinking",
        "thinking": "",
        "signature": "",
    }
    assert [e["index"] for e in told if e["type"] == block[0]] == [0, 1, 2, 3]
    assert json.loads(told[11]["delta"]["partial_json"]) == {"city": "Rome"}
    assert told[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert told[-2]["usage"]["cache_read_input_tokens"] == 8
    assert [block["type"] for block in whole["content"]] == [
        *("thinking", "text", "tool_use", "tool_use")
    ]
    assert whole["content"][0]["thinking"] == "Hm, Rome."
    assert whole["content"][2]["input"] == {"city": "Rome"}
    assert whole["stop_reason"] == "tool_use" and whole["usage"] == told[-2]["usage"]


def test_a_call_beside_one_that_cannot_be_read():
    """Clients run the one; the other stands in the text."""
    reply = Reply("any", 1000)
    answer = [calls(ToolCall("look", {})), *chunks("x", finish_reason="malformed_call")]
    for chunk in answer:
        reply.add(chunk)
    assert reply.message()["stop_reason"] == "tool_use"


def test_a_thought_that_is_not_to_be_shown():
    answer = [thought("Hm."), *chunks("Yes.")]
    hides = {"type": "adaptive", "display": "omitted"}
    with served(lambda: ScriptedEngine(answer)) as running:
        said = running.ask("POST", "/v1/messages", body(thinking=hides)).json()
        back = [*QUESTION, {"role": "assistant", "content": said["content"]}, *QUESTION]
        running.ask("POST", "/v1/messages", body(back))
        again = running.engine.asked[-1].messages
    assert said["content"][0]["thinking"] == ""
    assert again[1]["reasoning"] == "Hm."


@pytest.mark.parametrize(
    ("reason", "context", "expected"),
    [
        ("stop", 1000, "end_turn"),
        ("length", 1000, "max_tokens"),
        ("length", 21, "model_context_window_exceeded"),
        ("closed", 1000, "max_tokens"),
        ("loop", 1000, "max_tokens"),
        ("malformed_call", 1000, "end_turn"),
    ],
)
def test_why_it_ended(reason: str, context: int, expected: str):
    reply = Reply("any", context)
    for chunk in chunks("Yes.", finish_reason=reason):
        reply.add(chunk)
    assert reply.message()["stop_reason"] == expected


def test_errors_are_in_the_words_of_the_protocol(server: Served):
    long = server.ask(
        "POST", "/v1/messages", body([{"role": "user", "content": "x " * 9000}])
    )
    assert long.status == 400
    told = long.json()["error"]
    assert told["type"] == "invalid_request_error"
    # Claude Code looks for these words and numbers, and then shortens.
    assert told["message"] == "prompt is too long: 18008 tokens > 4095 maximum"
    thread = server.ask("POST", "/v1/messages", body(thread={"type": "create"})).json()
    details = thread["error"]["details"]
    assert details["error_code"] == "thread_unsupported_request"
    wrong = server.ask("POST", "/v1/messages", body(top_k=-1)).json()
    assert wrong["type"] == "error" and "top_k must be 0 or more" in str(wrong)


def test_so_are_those_that_are_found_before_it_is_asked():
    with served(lambda: ScriptedEngine(), Guard(key="secret")) as running:
        keyless = running.ask("POST", "/v1/messages", body())
        key = {"x-api-key": "secret"}
        method = running.ask("GET", "/v1/messages", headers=key)
        plain = running.ask("POST", "/v1/chat/completions", {}).json()
    assert keyless.status == 401
    assert keyless.json()["error"]["type"] == "authentication_error"
    assert (method.status, method.json()["type"]) == (405, "error")
    assert plain["error"]["param"] is None and "type" not in plain


def test_a_second_turn_reads_only_what_is_new(server: Served):
    first = server.ask("POST", "/v1/messages", body()).json()
    told = [*QUESTION, {"role": "assistant", "content": first["content"]}, *QUESTION]
    counted = server.ask("POST", "/v1/messages/count_tokens", body(told)).json()
    usage = server.ask("POST", "/v1/messages", body(told)).json()["usage"]
    read = first["usage"]["input_tokens"] + first["usage"]["output_tokens"]
    assert usage["cache_read_input_tokens"] == read
    assert counted == {"input_tokens": read + usage["input_tokens"]}


def test_what_an_answer_begins_with_is_counted(server: Served):
    begun = body([*QUESTION, {"role": "assistant", "content": "The capital of"}])
    usage = server.ask("POST", "/v1/messages", begun).json()["usage"]
    counted = server.ask("POST", "/v1/messages/count_tokens", begun).json()
    read = usage["input_tokens"] + usage["cache_read_input_tokens"]
    assert counted == {"input_tokens": read}
