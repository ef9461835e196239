"""Questions that a model answers with tools."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..chat.calls import ToolCall
from ..errors import ChatError
from ..generation.answer import Chunk, Response
from ..generation.chat import Chat, Message
from .media import readable
from .result import Result
from .tool import Tool
from .toolbox import Toolbox

Approve = Callable[[Tool, ToolCall], bool]

REFUSED = Result("Error: the user does not allow this call.", is_error=True)
LIMIT = "Error: not run, for no more calls are allowed. Answer with what is known."
CALLED = ("tool_calls", "malformed_call")  # ends of answers that may hold calls


def run_tools(
    chat: Chat,
    message: str | Message | Sequence[Message],
    tools: Sequence[Tool | Callable[..., Any]],
    *,
    approve: Approve | None = None,
    rounds: int = 10,
) -> Response:
    """The answer to a message, for which the model may call tools that are run.

        def get_weather(city: str) -> str:
            \"\"\"Get the weather in a city.\"\"\"
            return "sunny, 21 degrees"

        run_tools(chat, "What is the weather in Oslo?", [get_weather]).text

    message: as `Chat.ask` takes it.
    tools: functions, or what `@tool` makes of them.
    approve: whether to run a call; without it all are run. What is not run is told to
        the model.
    rounds: after so many answers with calls the model has to answer without
        (finish_reason "tool_limit").

    All that was called and what came of it stands in `chat.messages`. A call of a tool
    that only `chat.tools` declares is left to the caller, as `Chat.ask` leaves it.

    Raises ChatError for what cannot be declared, and as `Chat.ask` does.
    """
    response = Response()
    for chunk in stream_tools(chat, message, tools, approve=approve, rounds=rounds):
        if response.finish_reason is not None:
            response = Response()
        response.add(chunk)
    return response


def stream_tools(
    chat: Chat,
    message: str | Message | Sequence[Message],
    tools: Sequence[Tool | Callable[..., Any]],
    *,
    approve: Approve | None = None,
    rounds: int = 10,
) -> Iterator[Chunk]:
    """`run_tools`, a chunk per token of every answer; each ends with a finish_reason.

    Stopped in the middle of calls, what was run of them stands in `chat.messages`, and
    `chat.open_call()` is the first that was not.
    """
    if rounds < 0:
        raise ChatError(f"rounds is {rounds}; it must be 0 or more.")
    box, before = Toolbox(tools), (chat.tools, chat.options)
    others = [each for each in chat.tools or () if _name(each) not in box.tools]
    left = {_name(each) for each in others}
    chat.tools = [*others, *box.declarations]
    try:
        yield from chat.stream(message)
        # An answer that has to call something would otherwise never be the last.
        chat.options = {**chat.options, "tool_choice": None}
        for _ in range(rounds):
            if not (calls := _calls(chat, left)):
                return
            yield from chat.stream(_results(chat, box, calls, approve))
        if calls := _calls(chat, left):
            chat.options = {**chat.options, "tool_choice": "none"}
            told = Result(LIMIT, is_error=True)
            for chunk in chat.stream([told.message(call_id) for call_id in calls]):
                stopped = chunk.finish_reason == "stop"
                yield replace(chunk, finish_reason="tool_limit") if stopped else chunk
    finally:
        chat.tools, chat.options = before


def _name(declared: Mapping[str, Any]) -> Any:
    return declared.get("function", declared).get("name")


def _calls(chat: Chat, left: set[str]) -> dict[str, ToolCall]:
    """The calls of an answer that came to its end, by id; none where one is among those
    that are left to others."""
    answer = chat.last or Response()
    calls = answer.tool_calls if answer.finish_reason in CALLED else []
    if not calls or any(call.name in left for call in calls):
        return {}
    ids = [call["id"] for call in chat.messages[-1]["tool_calls"]]
    return dict(zip(ids, calls, strict=True))


def _results(
    chat: Chat, box: Toolbox, calls: Mapping[str, ToolCall], approve: Approve | None
) -> list[dict[str, Any]]:
    """Runs calls in order. Those that were run before a Ctrl-C are kept."""
    results: list[dict[str, Any]] = []
    try:
        for call_id, call in calls.items():
            tool = box.tools.get(call.name)
            refused = tool and approve and not approve(tool, call)
            result = REFUSED if refused else box.run(call)
            seen = readable(result, chat.processor, chat.options["image_tokens"])
            results.append(seen.message(call_id))
    except BaseException:
        chat.messages += results
        raise
    return results
