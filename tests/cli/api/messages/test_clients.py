"""Anthropic's API as its own client has it, and Claude Code."""

import base64
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from places import SHAPES
from scripted import chunks
from scripted_engine import ScriptedEngine, calls, thought
from serving import demo, served

from mlx_gemma4 import Chunk
from mlx_gemma4.chat.calls import ToolCall

pytestmark = pytest.mark.slow

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {
    "name": "get_weather",
    "description": "Get the weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    anthropic = pytest.importorskip("anthropic", reason="needs Anthropic's client")
    with served(demo) as running:
        url = running.server.url
        yield anthropic.Anthropic(base_url=url, api_key="any", max_retries=0)


def body(messages: list[Any] = QUESTION, **fields: Any) -> dict[str, Any]:
    return {"model": "any", "max_tokens": 60, "messages": messages, **fields}


def test_the_client_reads_only_what_is_new(client: Any):
    assert [m.display_name for m in client.models.list()] == ["demo"]
    said = client.messages.create(**body(system="Be brief."))
    assert said.content[0].text == "The capital of France is Paris."
    assert said.stop_reason == "end_turn" and said.usage.cache_read_input_tokens == 0
    more = [
        {
            "type": "text",
            "text": "And of Spain?",
            "cache_control": {"type": "ephemeral"},
        }
    ]
    told = [*QUESTION, {"role": "assistant", "content": said.content}]
    told.append({"role": "user", "content": more})
    with client.messages.stream(
        **body(told, system=[{"type": "text", "text": "Be brief."}])
    ) as stream:
        assert "".join(stream.text_stream) == "The capital of Spain is Madrid."
        usage = stream.get_final_message().usage
    read = said.usage.input_tokens + said.usage.output_tokens
    assert usage.cache_read_input_tokens == read
    counted = client.messages.count_tokens(
        model="any", messages=told, system="Be brief."
    )
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def test_the_client_shows_a_picture(client: Any):
    data = base64.b64encode(SHAPES.read_bytes()).decode()
    source = {"type": "base64", "media_type": "image/png", "data": data}
    asked = [
        {"type": "image", "source": source},
        {"type": "text", "text": "What is in this picture?"},
    ]
    said = client.messages.create(**body([{"role": "user", "content": asked}]))
    assert said.content[0].text.startswith("A red circle at the top left")


def test_the_client_calls_a_tool_and_is_told_the_result(client: Any):
    told: list[Any] = [{"role": "user", "content": "What is the weather in Rome?"}]
    called = client.messages.create(**body(told, tools=[WEATHER]))
    (use,) = called.content
    assert (use.name, use.input, called.stop_reason) == (
        "get_weather",
        {"city": "Rome"},
        "tool_use",
    )
    told.append({"role": "assistant", "content": called.content})
    result = '{"condition": "sunny", "temperature": 21}'
    block = {"type": "tool_result", "tool_use_id": use.id, "content": result}
    told.append({"role": "user", "content": [block]})
    said = client.messages.create(**body(told, tools=[WEATHER]))
    assert "21 degrees in Rome" in said.content[0].text
    none = client.messages.create(
        **body(told[:1], tools=[WEATHER], tool_choice={"type": "none"})
    )
    assert none.stop_reason == "end_turn"


def test_the_client_runs_tools(client: Any):
    """It asks for a thread first, and goes on without one."""
    from anthropic import beta_tool

    def get_weather(city: str) -> str:
        return '{"weather": "sunny", "degrees": 21}'

    tool = beta_tool(
        get_weather,
        description=WEATHER["description"],
        input_schema=WEATHER["input_schema"],
    )
    asked = [{"role": "user", "content": "What is the weather in Rome?"}]
    runner = client.beta.messages.tool_runner(**body(asked, tools=[tool]))
    assert runner.until_done().content[0].text == "It is sunny and 21 degrees in Rome."


def test_the_client_demands_a_call_and_a_form(client: Any):
    pytest.importorskip("llguidance", reason="needs the extra json")
    hello: list[Any] = [{"role": "user", "content": "Hello"}]
    one = {"type": "any", "disable_parallel_tool_use": True}
    called = client.messages.create(**body(hello, tools=[WEATHER], tool_choice=one))
    assert [block.type for block in called.content] == ["tool_use"]
    assert list(called.content[0].input) == ["city"]
    schema = {
        "type": "object",
        "properties": {"old": {"type": "boolean"}},
        "required": ["old"],
        "additionalProperties": False,
    }
    form = {"format": {"type": "json_schema", "schema": schema}}
    said = client.messages.create(**body(hello, output_config=form))
    assert said.content[0].text in ('{"old":true}', '{"old":false}')
    counted = client.messages.count_tokens(
        model="any", messages=hello, output_config=form
    )
    usage = said.usage
    read = usage.input_tokens + usage.cache_read_input_tokens
    assert counted.input_tokens == read


def test_the_client_sees_thoughts(client: Any):
    thinks = {"type": "enabled", "budget_tokens": 1024}
    said = client.messages.create(**body(thinking=thinks))
    assert [block.type for block in said.content] == ["thinking", "text"]
    assert "capital of France" in said.content[0].thinking
    details = said.usage.output_tokens_details
    assert 0 < details.thinking_tokens < said.usage.output_tokens


def test_the_client_stops_limits_and_begins_an_answer(client: Any):
    stopped = client.messages.create(**body(stop_sequences=["Berlin", "of"]))
    assert stopped.content[0].text == "The capital "
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "of")
    cut = client.messages.create(**body() | {"max_tokens": 3})
    assert (cut.content[0].text, cut.stop_reason) == ("The capital of", "max_tokens")
    begun = [*QUESTION, {"role": "assistant", "content": "The capital of"}]
    assert client.messages.create(**body(begun)).content[0].text == " France is Paris."


def test_the_client_is_told_what_is_wrong(client: Any):
    import anthropic

    with pytest.raises(anthropic.BadRequestError, match="waits for no result"):
        block = {"type": "tool_result", "tool_use_id": "x", "content": "?"}
        client.messages.create(**body([{"role": "user", "content": [block]}]))
    with pytest.raises(anthropic.NotFoundError):
        client.beta.messages.batches.list()


CLAUDE = shutil.which("claude")


@pytest.mark.skipif(CLAUDE is None, reason="needs Claude Code")
def test_claude_code_runs_a_tool(tmp_path: Path):
    """All that it sends is understood, and so is all that it is told."""
    asks = [
        *(thought("I try."), Chunk("Let me see.", 1)),
        calls(ToolCall("Bash", {"command": "echo 12321", "description": "say"})),
        *chunks("", finish_reason="tool_calls"),
    ]
    with served(lambda: ScriptedEngine(asks, chunks("It says so."))) as running:
        done = subprocess.run(
            [str(CLAUDE), "-p", "Run it.", "--allowedTools", "Bash"],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "ANTHROPIC_BASE_URL": running.server.url,
                "ANTHROPIC_AUTH_TOKEN": "any",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            },
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        asked = running.engine.asked[-1].messages
    assert done.stdout == "It says so.\n", done.stderr
    assert asked[-1]["role"] == "tool" and asked[-1]["content"] == "12321"
