"""Tools for a scripted model, and a user who is asked about their calls."""

import io
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from scripted import chunks

from mlx_gemma4 import Chunk, ToolCall
from mlx_gemma4.cli.chat.session import Session
from mlx_gemma4.cli.tools import approval
from mlx_gemma4.cli.tools.opening import Chosen, use
from mlx_gemma4.tools.declare import tool_of
from mlx_gemma4.tools.tool import Tool

WEATHER = ToolCall("get_weather", {"city": "Rome"})
TIME = ToolCall("get_time", {"city": "Oslo"})


def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return f"sunny in {city}"


def get_time(city: str) -> str:
    """Get the time in a city."""
    return f"noon in {city}"


def use_tools(
    session: Session,
    *tools: Tool | Callable[..., Any],
    yes: bool = False,
    most: int = 10,
) -> None:
    made = [each if isinstance(each, Tool) else tool_of(each) for each in tools]
    use(session, Chosen(made), yes, most)


def calling(*calls: ToolCall, text: str = "done") -> Callable[[list[dict]], Any]:
    """A model that calls, all at once, and answers with `text` once it has results."""

    def answer(messages: list[dict]) -> Iterable[Chunk]:
        if messages[-1]["role"] == "tool":
            return chunks(text)
        return chunks("", tool_calls=calls, finish_reason="tool_calls")

    return answer


def results(session: Session) -> list[str]:
    """What the model is told of its calls."""
    return [m["content"] for m in session.chat.messages if m["role"] == "tool"]


def asked_with(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Somebody is there, and types `answers`; then Ctrl-D."""
    monkeypatch.setattr(approval, "can_ask", lambda screen: not screen.as_json)
    typed = "".join(f"{answer}\n" for answer in answers)
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
