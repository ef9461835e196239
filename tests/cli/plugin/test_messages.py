"""What prompts of `llm` become: conversations, tools, forms."""

from pathlib import Path
from typing import Any

import pytest
from places import SHAPES

from mlx_gemma4.errors import MediaError

llm: Any = pytest.importorskip("llm", reason="needs the extra: pip install .[llm]")

from llm.parts import (  # noqa: E402
    AttachmentPart,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

from mlx_gemma4.cli.plugin.messages import asked_of  # noqa: E402
from mlx_gemma4.cli.plugin.models import Gemma  # noqa: E402

MODEL = Gemma("gemma4")
PERSON = {"type": "object", "properties": {"name": {"type": "string"}}}
CALL = ToolCallPart("look", {"where": "up"}, "tc_1")
CALLED = {
    "type": "function",
    "id": "tc_1",
    "function": {"name": "look", "arguments": {"where": "up"}},
}


def asked(text: str = "", conversation: Any = None, **given: Any) -> Any:
    return asked_of(llm.Prompt(text, MODEL, **given), conversation)


def test_a_question() -> None:
    got = asked("Hi", system="Be brief.")
    assert got.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]
    assert (got.tools, got.form, got.options) == (None, {}, {})


def test_a_turn_with_a_thought_and_a_tool() -> None:
    messages = [
        llm.user("Look up."),
        llm.assistant(ReasoningPart("Hm."), TextPart("I "), TextPart("look."), CALL),
        llm.tool_message(ToolResultPart("look", "a star", "tc_1")),
    ]
    assert asked(messages=messages).messages[1:] == [
        {
            "role": "assistant",
            "content": "I look.",
            "reasoning": "Hm.",
            "tool_calls": [CALLED],
        },
        {"role": "tool", "name": "look", "content": "a star", "tool_call_id": "tc_1"},
    ]


def test_a_call_and_its_result_in_one_message() -> None:
    """As other models write what their own server ran."""
    both = llm.assistant(CALL, ToolResultPart("look", "a star"), TextPart("A star."))
    said = asked(messages=[llm.user("Look up."), both]).messages[1:]
    assert [each["role"] for each in said] == ["assistant", "tool", "assistant"]
    assert said[1] == {"role": "tool", "name": "look", "content": "a star"}
    assert said[2]["content"] == "A star."


def test_what_a_tool_shows_is_shown_by_the_user() -> None:
    seen = llm.Attachment(path=str(SHAPES))
    result = ToolResultPart("look", "a star", "tc_1", attachments=[seen])
    said = asked(messages=[llm.assistant(CALL), llm.tool_message(result)]).messages
    assert [each["role"] for each in said] == ["assistant", "tool", "user"]
    assert said[-1]["content"] == [{"type": "image", "image": str(SHAPES)}]


def test_a_later_system_instruction_takes_the_place_of_the_first() -> None:
    earlier = [llm.system("Be brief."), llm.user("Hi"), llm.assistant("Hello.")]
    said = asked(messages=[*earlier, llm.user("Go on.")], system="Rhyme.").messages
    assert [m["content"] for m in said] == ["Rhyme.", "Hi", "Hello.", "Go on."]


def test_media_go_before_the_text_unless_somebody_ordered_them() -> None:
    picture = AttachmentPart(llm.Attachment(path=str(SHAPES)))
    shown = {"type": "image", "image": str(SHAPES)}
    first, last = ({"type": "text", "text": text} for text in ("See:", "Good?"))
    [one] = asked("See:", attachments=[picture.attachment] * 2).messages
    assert one["content"] == [shown, shown, first]
    [one] = asked(messages=[llm.user("See:", picture, "Good?")]).messages
    assert one["content"] == [first, shown, last]


def start(name: str) -> bytes:
    return {
        "voice.m4a": b"\0\0\0\x20ftypM4A \0\0\0\0",
        "film.mov": b"\0\0\0\x14ftypqt  ",
        "page": b"%PDF-1.4",
        "noise.bin": b"no medium",
    }[name]


@pytest.mark.parametrize(
    ("name", "kind"), [("voice.m4a", "audio"), ("film.mov", "video"), ("page", "image")]
)
def test_a_file_is_what_its_first_bytes_say(
    name: str, kind: str, tmp_path: Path
) -> None:
    """Whatever `llm` takes it for: nothing, for many recordings."""
    file = tmp_path / name
    file.write_bytes(start(name))
    by_path = llm.Attachment(type="", path=str(file))
    by_bytes = llm.Attachment(type="application/x", content=start(name))
    [one] = asked("", attachments=[by_path, by_bytes]).messages
    paths = {"type": kind, kind: str(file)}, {"type": kind, kind: start(name)}
    assert one["content"] == list(paths)


def test_what_is_no_medium() -> None:
    noise = llm.Attachment(type="text/plain", content=start("noise.bin"))
    with pytest.raises(MediaError, match=r"no picture, .*`llm -f`"):
        asked("", attachments=[noise])


def look(where: str, days: int = 3) -> str:
    """Looks somewhere.

    With care.
    """
    return f"{where} {days}"


def test_tools_and_options() -> None:
    options = MODEL.Options(think=True, strict_tools=True, seed=1, kv_bits=0)
    got = asked("Hi", tools=[look], options=options)
    assert got.options == {"thinking": True, "strict_tools": True, "seed": 1}
    function = got.tools[0]["function"]
    assert function["description"] == "Looks somewhere.\n\nWith care."
    parameters = function["parameters"]
    assert parameters["required"] == ["where"]
    assert parameters["properties"]["days"]["description"] == "(default 3)"


def test_the_schema_holds_for_all_rounds_of_a_turn() -> None:
    """`llm` states it in the first alone."""
    conversation = MODEL.conversation()
    for given in (
        {"schema": {"type": "string"}},
        {"schema": PERSON, "prompt": "Who?"},
        {"tool_results": [llm.ToolResult("look", "a star")]},
    ):
        prompt = llm.Prompt(given.pop("prompt", ""), MODEL, **given)
        conversation.responses.append(llm.Response(prompt, MODEL, stream=True))
    results = [llm.ToolResult("look", "a moon")]
    assert asked(conversation=conversation, tool_results=results).form == {
        "schema": PERSON
    }
    assert asked("And now?", conversation).form == {}
