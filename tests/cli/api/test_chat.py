"""`/v1/chat/completions`, request by request."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from serving import Served, served
from told import Told, said

from mlx_gemma4 import Chunk, ToolCall
from mlx_gemma4.cli.api.chat import asked_of
from mlx_gemma4.cli.api.fields import Fields
from mlx_gemma4.cli.api.messages.blocks import conversation
from mlx_gemma4.cli.api.responses.reading import messages_of
from mlx_gemma4.cli.serve.engine import Asked
from mlx_gemma4.cli.serve.errors import Refused
from mlx_gemma4.cli.serve.media import MediaRules

USER = {"role": "user", "content": "Hello."}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
CALLS = ToolCall("weather", {"city": "Rome"}), ToolCall("weather", {"city": "Zürich"})


def asked(**more: Any) -> Asked:
    return asked_of(Fields({"model": "m", "messages": [USER], **more}), MediaRules())


def rule(asked: Asked) -> list[Chunk]:
    if asked.tools:
        return said(Chunk("", 1, thought="Hm."), Chunk("", 2, tool_calls=CALLS))
    return said(Chunk("", 1, thought="Hm."), Chunk("Good ", 1), Chunk("day.", 2))


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(lambda: Told(rule)) as running:
        yield running


def ask(server: Served, **more: Any) -> Any:
    body = {"messages": [USER], **more}
    reply = server.ask("POST", "/v1/chat/completions", body)
    assert reply.status == 200, reply.data
    if not more.get("stream"):
        return reply.json()
    *events, done, end = reply.data.decode().split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_a_whole_answer(server) -> None:
    reply = ask(server)
    (choice,) = reply["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": "Good day.",
        "reasoning_content": "Hm.",
    }
    assert choice["finish_reason"] == "stop"
    assert (reply["object"], reply["model"]) == ("chat.completion", "told")
    assert reply["usage"] == {
        "prompt_tokens": 20,
        "completion_tokens": 4,
        "total_tokens": 24,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }


def test_a_stream(server) -> None:
    events = ask(server, stream=True, stream_options={"include_usage": True})
    *parts, last = events
    assert [part["choices"][0]["delta"] for part in parts] == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Hm."},
        {"content": "Good "},
        {"content": "day."},
        {},
    ]
    reasons = [part["choices"][0]["finish_reason"] for part in parts]
    assert reasons == [None] * 4 + ["stop"]
    assert last["choices"] == [] and last["usage"]["total_tokens"] == 24
    assert len({part["id"] for part in events}) == 1
    assert not any("usage" in part for part in ask(server, stream=True))


def test_calls(server) -> None:
    (choice,) = ask(server, tools=[WEATHER])["choices"]
    calls = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [
        call.arguments for call in CALLS
    ]
    assert len({call["id"] for call in calls}) == 2
    events = ask(server, tools=[WEATHER], stream=True)
    deltas = [event["choices"][0]["delta"] for event in events]
    (called,) = [delta["tool_calls"] for delta in deltas if "tool_calls" in delta]
    assert [call["index"] for call in called] == [0, 1]
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("reason", ["length", "closed", "loop"])
def test_an_answer_that_is_not_whole(reason) -> None:
    def cut(asked: Asked) -> list[Chunk]:
        return [
            *said()[:-1],
            Chunk("Go", 1, finish_reason=reason, stats=said()[-1].stats),
        ]

    with served(lambda: Told(cut)) as server:
        assert ask(server)["choices"][0]["finish_reason"] == "length"


def test_how_it_is_to_be_answered() -> None:
    found = asked(
        temperature=0,
        top_p=1,
        seed=-1,
        stop="x",
        max_tokens=5,
        max_completion_tokens=6,
        logit_bias={"7": -100},
        reasoning_effort="low",
        user="me",
        n=1,
        logprobs=False,
        store=None,
    )
    assert found.options == {
        "temperature": 0,
        "top_p": 1,
        "seed": 2**64 - 1,
        "stop": ["x"],
        "max_tokens": 6,
        "logit_bias": {7: -100},
        "thinking": True,
        "think_budget": 1024,
    }
    off = {"thinking": False, "think_budget": None}
    assert asked(reasoning_effort="none").options == off
    assert asked(reasoning={"effort": "minimal"}).options == off
    on = asked(chat_template_kwargs={"enable_thinking": True})
    assert on.options == {"thinking": True}


def test_tools_and_forms() -> None:
    named = {"type": "function", "function": {"name": "weather"}}
    assert asked(tools=[WEATHER], tool_choice=named).tool_choice == "weather"
    assert asked(tools=[WEATHER], tool_choice="none").tool_choice == "none"
    assert not asked(tools=[WEATHER], parallel_tool_calls=False).parallel_calls
    assert asked(tools=[]).tools is None
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    assert asked(tools=[WEATHER, strict]).options == {"strict_tools": True}
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": CITY}}
    assert asked(response_format=schema).form == {"schema": CITY}
    anything = asked(response_format={"type": "json_object"})
    assert anything.form == {"schema": {"type": "object"}}
    assert asked(response_format={"type": "text"}).form == {}


def test_messages() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "weather"}}
    found = asked(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}], "name": "me"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": [USER_TEXT]},
            {"role": "assistant", "content": "", "reasoning_content": "Hm."},
            # As OpenAI's client gives back what it parsed.
            {"role": "assistant", "content": "{}", "parsed": {}, "refusal": None},
        ]
    )
    assert found.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "sunny"},
        {"role": "assistant", "content": "", "reasoning_content": "Hm."},
        {"role": "assistant", "content": "{}"},
    ]


def test_calls_without_results_are_refused() -> None:
    """The model would make the results up."""
    calls = [{"id": i, "function": {"name": "weather"}} for i in ("a", "b")]
    called = {"role": "assistant", "content": None, "tool_calls": calls}
    first, second = ({"role": "tool", "tool_call_id": i, "content": ""} for i in "ab")
    named = {"role": "tool", "name": "weather", "content": "sunny"}
    assert asked(messages=[USER, called, second, first, USER])
    assert asked(messages=[USER, called, named, named])
    for after, waiting in (([], "a, b"), ([USER], "a, b"), ([second, USER], "a")):
        with pytest.raises(Refused, match=f"no result of {waiting}: "):
            asked(messages=[USER, called, *after])


def test_the_same_conversation_reads_the_same_as_in_the_other_protocols() -> None:
    """One turn of the system's, in the one role that Gemma knows, and texts apart."""
    texts = [{"type": "text", "text": text} for text in ("One. ", "Two.")]
    found = asked(
        messages=[
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": texts},
            {"role": "assistant", "content": "Yes."},
            {"role": "developer", "content": "Hurry."},
        ]
    )
    assert found.messages == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        {"role": "user", "content": "One.\n\nTwo."},
        {"role": "assistant", "content": "Yes."},
        {"role": "system", "content": "Hurry."},
    ]
    heard = [
        {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
        for role, kind, text in (
            ("system", "input_text", "Be brief."),
            ("developer", "input_text", "Be kind."),
        )
    ]
    spoken = [{"type": "input_text", "text": part["text"]} for part in texts]
    heard.append({"type": "message", "role": "user", "content": spoken})
    assert messages_of(None, heard, MediaRules()) == found.messages[:2]
    system = [{"type": "text", "text": text} for text in ("Be brief.", "Be kind.")]
    blocks = [{"role": "user", "content": texts}]
    assert conversation(system, blocks, MediaRules()) == found.messages[:2]


USER_TEXT = {"type": "text", "text": "sunny"}
URL = {"url": "data:image/png;base64,AAAA", "detail": "high"}


def part(**given: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [given]}]}


def test_media() -> None:
    for given, kind in (
        ({"type": "image_url", "image_url": URL}, "image"),
        ({"type": "image_url", "image_url": URL["url"]}, "image"),
        ({"type": "video_url", "video_url": {"url": URL["url"]}}, "video"),
        ({"type": "input_audio", "input_audio": {"data": "AAAA"}}, "audio"),
        ({"type": "file", "file": {"file_data": URL["url"], "filename": "x"}}, "image"),
    ):
        messages = asked(**part(**given)).messages
        assert messages and messages[0]["content"] == [{"type": kind, kind: b"\0\0\0"}]


FORM = "response_format."


def form(**more: Any) -> dict[str, Any]:
    stated = {"type": "json_schema", "json_schema": {"schema": CITY, **more}}
    return {"response_format": stated}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"prediction": {}}, "prediction"),
        ({"functions": []}, "functions"),
        ({"messages": []}, "messages"),
        ({"messages": ["Hello"]}, "messages[0]"),
        ({"messages": [{"role": "robot"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"messages": [{**USER, "path": "/etc/passwd"}]}, "messages[0].path"),
        (part(type="image", path="/etc/passwd"), "messages[0].content[0].type"),
        (part(type="image_url"), "messages[0].content[0].image_url"),
        (part(type="text", text=1), "messages[0].content[0].text"),
        (
            part(type="image_url", image_url={"url": "/etc/passwd"}),
            "messages[0].content[0].image_url.url",
        ),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_p": 1e400}, "top_p"),
        ({"seed": 10**400}, "seed"),
        ({"stop": [1]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 1000}}, "logit_bias.1"),
        ({"tools": [WEATHER], "tool_choice": "maybe"}, "tool_choice"),
        ({"tools": {}}, "tools"),
        ({"tool_choice": {"function": {"name": "a"}, "x": 1}}, "tool_choice.x"),
        ({"response_format": {"type": "text", "strict": True}}, FORM + "strict"),
        (form(strict=True, name="x", examples=[]), FORM + "json_schema.examples"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema",
        ),
    ],
)
def test_what_is_refused_is_named(more, param) -> None:
    with pytest.raises(Refused) as error:
        asked(**more)
    assert error.value.param == param and error.value.status in (400, 403)
    assert param in error.value.message


@pytest.mark.parametrize("drafted", [0, 5])
def test_drafts_that_were_right_and_wrong_are_counted(drafted: int) -> None:
    def answer(asked: Asked) -> list[Chunk]:
        *chunks, last = said(Chunk("Good ", 1))
        assert last.stats is not None
        stats = replace(last.stats, drafted=drafted, accepted=drafted and 3)
        return [*chunks, replace(last, stats=stats)]

    with served(lambda: Told(answer)) as server:
        whole, *_, last = (
            ask(server),
            *ask(server, stream=True, stream_options={"include_usage": True}),
        )
    told = {"reasoning_tokens": 0}
    if drafted:
        told |= {"accepted_prediction_tokens": 3, "rejected_prediction_tokens": 2}
    for reply in (whole, last):
        assert reply["usage"]["completion_tokens_details"] == told
