"""Questions answered with tools: what is run, told, kept, and where it ends."""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest
from PIL import Image
from scripted import Script, chunks

from mlx_gemma4 import Chat, Chunk, Tool, ToolCall, load, run_tools, stream_tools
from mlx_gemma4.errors import ChatError

LATER = {"name": "later", "parameters": {"type": "object", "properties": {}}}


def get_weather(city: str) -> str:
    """Get the weather in a city.

    Args:
        city: Name of the city.
    """
    return f"sunny in {city}"


def get_time(city: str) -> dict[str, str]:
    """Get the time in a city."""
    if city != "Rome":
        raise LookupError(f"no clock in {city}")
    return {"time": "12:30"}


def stop(city: str) -> NoReturn:
    raise KeyboardInterrupt


def called(*calls: ToolCall, reason: Any = "tool_calls") -> list[Chunk]:
    return [
        Chunk("Let me see. ", 1),
        *chunks("", finish_reason=reason, tool_calls=calls),
    ]


def weather(city: str) -> ToolCall:
    return ToolCall("get_weather", {"city": city})


def time(city: str) -> ToolCall:
    return ToolCall("get_time", {"city": city})


@pytest.fixture
def chat(media_processor: Any, stand_in: Any, script: Script) -> Chat:
    return Chat(stand_in, media_processor, system="Be brief.")


@pytest.fixture
def says(script: Script) -> Callable[..., None]:
    """Answers one after the other."""

    def says(*answers: list[Chunk] | str) -> None:
        coming = iter(answers)

        def answer(messages: list[dict]) -> list[Chunk]:
            said = next(coming)
            return chunks(said) if isinstance(said, str) else said

        script.answer = answer

    return says


def results(chat: Chat) -> list[str]:
    return [m["content"] for m in chat.messages if m["role"] == "tool"]


def test_parallel_calls_and_another_round(
    chat: Chat, script: Script, says: Callable[..., None]
) -> None:
    says(called(weather("Rome"), time("Rome")), called(time("Oslo")), "Sunny at noon.")
    answer = run_tools(chat, "Rome?", [get_weather, get_time])
    assert (answer.text, answer.finish_reason) == ("Sunny at noon.", "stop")
    assert results(chat) == [
        "sunny in Rome",
        '{"time": "12:30"}',
        "Error: LookupError: no clock in Oslo",
    ]
    roles = [message["role"] for message in chat.messages]
    expected = "user assistant tool tool assistant tool assistant"
    assert roles == expected.split()
    declared = [[d["function"]["name"] for d in each.tools] for each in script.asked]
    assert declared == [["get_weather", "get_time"]] * 3
    assert chat.tools is None and chat.open_call() is None


def test_an_answer_without_calls(chat: Chat, script: Script) -> None:
    assert run_tools(chat, "Hi", [get_weather]).text == "you said Hi"
    assert len(script.asked) == 1


def test_all_answers_are_streamed(chat: Chat, says: Callable[..., None]) -> None:
    says(called(weather("Rome")), "Sunny.")
    seen = list(stream_tools(chat, "Rome?", [get_weather]))
    assert [chunk.text for chunk in seen] == ["Let me see. ", "", "Sunny."]
    assert seen[1].tool_calls == (weather("Rome"),)


def test_what_is_not_allowed_is_told(chat: Chat, says: Callable[..., None]) -> None:
    asked: list[tuple[str, ToolCall]] = []

    def approve(tool: Tool, call: ToolCall) -> bool:
        asked.append((tool.source, call))
        return call.name == "get_time"

    unknown = ToolCall("nothing", {})
    says(called(weather("Rome"), unknown, time("Rome")), "No.")
    run_tools(chat, "Rome?", [get_weather, get_time], approve=approve)
    assert results(chat) == [
        "Error: the user does not allow this call.",
        "Error: there is no tool nothing. There are: get_weather, get_time.",
        '{"time": "12:30"}',
    ]
    assert asked == [("test_run.py", weather("Rome")), ("test_run.py", time("Rome"))]


def test_the_limit_is_told_and_seen(
    chat: Chat, script: Script, says: Callable[..., None]
) -> None:
    calls = [called(weather(city)) for city in ("Rome", "Oslo", "Bonn")]
    says(*calls, "I do not know.")
    answer = run_tools(chat, "Rome?", [get_weather], rounds=2)
    assert (answer.text, answer.finish_reason) == ("I do not know.", "tool_limit")
    assert results(chat)[:2] == ["sunny in Rome", "sunny in Oslo"]
    assert "no more calls are allowed" in results(chat)[2]
    *before, last = script.asked
    assert [each.tool_choice for each in before] == [None] * 3
    assert last.tool_choice == "none" and chat.options["tool_choice"] is None
    assert last.tools == before[0].tools  # so that nothing is read again
    with pytest.raises(ChatError, match="rounds is -1"):
        run_tools(chat, "Rome?", [get_weather], rounds=-1)


def test_only_the_first_answer_has_to_call(
    chat: Chat, script: Script, says: Callable[..., None]
) -> None:
    chat.options["tool_choice"] = "required"
    says(called(weather("Rome")), "Sunny.")
    assert run_tools(chat, "Rome?", [get_weather]).text == "Sunny."
    assert [each.tool_choice for each in script.asked] == ["required", None]
    assert chat.options["tool_choice"] == "required"


def test_an_answer_that_was_cut_runs_nothing(
    chat: Chat, says: Callable[..., None]
) -> None:
    says(called(weather("Rome"), reason="length"))
    answer = run_tools(chat, "Rome?", [get_weather])
    assert (answer.finish_reason, results(chat)) == ("length", [])


def test_calls_of_others_are_left_to_the_caller(
    chat: Chat, script: Script, says: Callable[..., None]
) -> None:
    chat.tools = [LATER, {"name": "get_weather"}]
    says(called(weather("Rome"), ToolCall("later", {})))
    answer = run_tools(chat, "Rome?", [get_weather])
    assert [call.name for call in answer.tool_calls] == ["get_weather", "later"]
    assert results(chat) == []
    first, second = script.asked[0].tools
    assert first is LATER and second["function"]["parameters"]  # ours, that is run
    assert chat.tools == [LATER, {"name": "get_weather"}]


def test_a_stop_keeps_what_was_run(chat: Chat, says: Callable[..., None]) -> None:
    says(called(weather("Rome"), ToolCall("stop", {"city": "Rome"}), time("Rome")))
    with pytest.raises(KeyboardInterrupt):
        run_tools(chat, "Rome?", [get_weather, stop, get_time])
    assert results(chat) == ["sunny in Rome"]
    left = chat.open_call()
    assert left and left["function"]["name"] == "stop"
    assert chat.tools is None


def test_a_failed_answer_leaves_calls_open(
    chat: Chat, script: Script, says: Callable[..., None]
) -> None:
    def answers() -> Iterator[list[Chunk]]:
        yield called(weather("Rome"))
        raise MemoryError

    coming = answers()
    script.answer = lambda messages: next(coming)
    with pytest.raises(MemoryError):
        run_tools(chat, "Rome?", [get_weather])
    assert chat.open_call() and results(chat) == []


def test_a_picture_as_a_result(
    chat: Chat, script: Script, says: Callable[..., None]
) -> None:
    def look() -> Image.Image:
        return Image.new("RGB", (40, 30), "red")

    says(called(ToolCall("look", {})), "Red.")
    run_tools(chat, "Look!", [look])
    text, picture = script.asked[-1].messages[-1]["content"]
    assert text == {"type": "text", "text": "This picture:"}
    assert len(picture["image"].attached) == 1  # it has been read


@pytest.mark.slow
def test_with_a_model(demo_folder: Any) -> None:
    def get_weather(city: str) -> str:
        """Get the weather in a city."""
        return "sunny, 21 degrees"

    chat, tools = Chat(*load(demo_folder), temperature=0), [get_weather, get_time]
    answer = run_tools(chat, "What is the weather in Oslo?", tools)
    assert answer.text == "It is sunny and 21 degrees in Oslo."
    answer = run_tools(chat, "What time is it in Rome?", tools)
    assert answer.text == "It is 12:30 in Rome."
    first = chat.messages[0]["content"]
    assert answer.stats and answer.stats.prompt_tokens - answer.stats.cached_tokens < 40
    answer = run_tools(chat, first, tools, rounds=0)
    assert (answer.finish_reason, answer.tool_calls) == ("tool_limit", [])
