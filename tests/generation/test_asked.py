"""Messages in the order in which a model reads them."""

from typing import Any

from mlx_gemma4.generation.asked import as_written


def call(id: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "weather"}}


def result(id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": f"of {id}"}


def test_results_stand_in_the_order_of_their_calls() -> None:
    """Programs send them as they come; a template writes no ids."""
    first = {"role": "assistant", "tool_calls": [call("a"), call("b"), call("c")]}
    second = {"role": "assistant", "tool_calls": [call("c"), call("a")]}
    messages = [
        {"role": "user", "content": "Paris, Rome, Oslo?"},
        *(first, result("c"), result("a"), result("b")),
        *(second, result("a"), result("c")),
    ]
    assert as_written(messages) == [
        messages[0],
        *(first, result("a"), result("b"), result("c")),
        *(second, result("c"), result("a")),
    ]


def test_results_by_name_stay_where_they_are() -> None:
    calls = {"role": "assistant", "tool_calls": [call("a"), call("b")]}
    named = [{"role": "tool", "name": "weather", "content": text} for text in "12"]
    assert as_written([calls, *named]) == [calls, *named]
