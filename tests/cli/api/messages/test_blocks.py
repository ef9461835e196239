"""What a request of Anthropic's API says, as a conversation."""

from typing import Any

import pytest
from google_templates import google_template

from mlx_gemma4.chat.template import ChatTemplate
from mlx_gemma4.cli.api.messages.blocks import conversation, signature
from mlx_gemma4.cli.serve.errors import Refused
from mlx_gemma4.cli.serve.media import MediaRules
from mlx_gemma4.errors import ChatError
from mlx_gemma4.generation.asked import as_written

PIXEL = {"type": "base64", "media_type": "image/png", "data": "aGk="}


def said(*messages: Any, system: Any = None) -> list[dict[str, Any]]:
    return conversation(system, list(messages), MediaRules())


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def model(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def thought(words: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": words, "signature": "x"}


def use(name: str, id: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": arguments}


def result(id: str, content: Any = "ok", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": content, **more}


def test_texts_given_apart_stay_apart():
    system = [text("Be kind. "), text("Be brief.")]
    messages = said(user(text("Look:\n"), text("what is it?")), system=system)
    assert messages == [
        {"role": "system", "content": "Be kind.\n\nBe brief."},
        {"role": "user", "content": "Look:\n\nwhat is it?"},
    ]


def test_who_pays_is_not_told_to_the_model():
    """It differs from conversation to conversation, and stands before all the rest."""
    billing = "x-anthropic-billing-header: cc_version=1.2.3.abc;"
    first, _ = said(user(text("hi")), system=[text(billing), text("Be brief.")])
    assert first["content"] == "Be brief."
    first, _ = said(user(text("hi")), system=f"{billing}\nBe brief.")
    assert first["content"] == "Be brief."


def test_messages_of_one_speaker_are_one():
    messages = said({"role": "user", "content": "One."}, user(text("Two.")))
    assert messages == [{"role": "user", "content": "One.\n\nTwo."}]


def test_instructions_in_the_middle_stay_there():
    messages = said(user(text("hi")), {"role": "system", "content": "Be brief."})
    assert [message["role"] for message in messages] == ["user", "system"]


def test_media_and_documents():
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "aGk="}
    plain = {"type": "text", "media_type": "text/plain", "data": "words"}
    (message,) = said(
        user(
            {"type": "image", "source": PIXEL},
            {"type": "document", "source": pdf, "title": "A bill"},
            {"type": "document", "source": plain},
            {"type": "document", "source": {"type": "content", "content": "inner"}},
        )
    )
    assert message["content"] == [
        {"type": "image", "image": b"hi"},
        {"type": "text", "text": "A bill"},
        {"type": "image", "image": b"hi"},
        {"type": "text", "text": "words\n\ninner"},
    ]


def test_a_search_result_says_what_it_is_and_from_where():
    found = {"type": "search_result", "title": "Cats", "source": "cats.org"}
    (message,) = said(user({**found, "content": [text("They purr.")]}))
    assert message["content"] == "Cats\n\ncats.org\n\nThey purr."


def test_results_follow_in_the_order_of_the_calls():
    """Two calls of one tool are told apart by nothing else."""
    calls = model(
        use("get_weather", "a", city="Rome"), use("get_weather", "b", city="Oslo")
    )
    back = user(result("b", "cold"), result("a", [text("warm")]), text("And now?"))
    messages = said(user(text("hi")), calls, back)
    assert [(m["role"], m["content"]) for m in messages[2:]] == [
        ("tool", "warm"),
        ("tool", "cold"),
        ("user", "And now?"),
    ]
    assert [m["tool_call_id"] for m in messages[2:4]] == ["a", "b"]


def test_a_failure_is_told_and_a_picture_shown():
    calls = model(use("look", "a"), use("look", "b"), use("look", "c"))
    shown = {"type": "image", "source": PIXEL}
    back = user(
        result("a", "no file", is_error=True), result("b", [shown]), result("c", None)
    )
    _, _, failed, seen, empty = said(user(text("hi")), calls, back)
    assert failed["content"] == "Error:\n\nno file"
    assert seen["content"] == [{"type": "image", "image": b"hi"}]
    assert empty["content"] == ""


def test_what_was_written_is_read_again_as_it_was_written():
    """A thought, words and calls, in Google's template."""
    tools = [{"name": "look", "input_schema": {"type": "object", "properties": {}}}]
    written = model(thought("Hm."), text("Let me see."), use("look", "a"))
    again = model(thought("Now that."), use("look", "b"))
    messages = said(
        user(text("hi")), written, user(result("a")), again, user(result("b"))
    )
    prompt = ChatTemplate(google_template("small"), "<bos>").render(
        as_written(messages), tools, thinking=True
    )
    _, _, answer = prompt.text.partition("<|turn>model\n")
    response = '<|tool_response>response:look{value:<|"|>ok<|"|>}<tool_response|>'
    assert answer == (
        "<|channel>thought\nHm.\n<channel|>"
        "Let me see.<|tool_call>call:look{}<tool_call|>"
        f"{response}<|channel>thought\nNow that.\n<channel|>"
        f"<|tool_call>call:look{{}}<tool_call|>{response}<|channel>thought\n"
    )


def test_citations_are_not_promised():
    source = {"type": "text", "media_type": "text/plain", "data": "Grass is green."}
    document = {"type": "document", "source": source}
    assert said(user({**document, "citations": {"enabled": False}}))
    with pytest.raises(ChatError, match=r"messages\.0\.content\.0: .* citations"):
        said(user({**document, "citations": {"enabled": True}}))


def test_a_thought_that_was_not_shown_comes_back():
    hidden = {"type": "thinking", "thinking": "", "signature": signature("Hm.")}
    _, answer = said(user(text("hi")), model(hidden, text("Yes.")))
    assert answer["reasoning"] == "Hm."


REFUSED = {
    "no list": ("hi", "list of at least one"),
    "nothing": ([], "list of at least one"),
    "no object": (["hi"], "messages.0 must be an object"),
    "role": ([{"role": "tool", "content": "x"}], "messages.0 has role 'tool'"),
    "content": ([{"role": "user", "content": 3}], "messages.0.content must be"),
    "block": ([user("x")], "messages.0.content must be"),
    "kind": ([user({"type": "container_upload"})], "'container_upload' cannot be read"),
    "no kind": ([user({})], "type None cannot be read"),
    "no text": ([user({"type": "text"})], "needs text"),
    "file": (
        [user({"type": "image", "source": {"type": "file", "file_id": "f"}})],
        "content.0.source must be of type base64",
    ),
    "nested": (
        [
            user(
                {
                    "type": "document",
                    "source": {"type": "content", "content": [{"type": "document"}]},
                }
            )
        ],
        "type 'document' cannot be read",
    ),
    "no source": ([user({"type": "document"})], "source must be of type base64"),
    "unasked": ([user(result("a"))], "answers 'a', which waits for no result"),
    "open": ([user(text("x")), model(use("f", "a"))], "The end comes before .*: a"),
    "open in the middle": (
        [user(text("x")), model(use("f", "a")), user(text("y"))],
        "The rest of messages.2 comes before .*: a",
    ),
    "twice": (
        [user(text("x")), model(use("f", "a")), user(result("a"), result("a"))],
        "waits for no result",
    ),
    "input": (
        [user(text("x")), model({**use("f", "a"), "input": "{}"})],
        "input of a tool_use must be an object",
    ),
    "signature": (
        [model({"type": "thinking", "thinking": "", "signature": "gemma4:%%"})],
        "the signature is damaged",
    ),
    "signature in other letters": (
        [model({"type": "thinking", "thinking": "", "signature": "gemma4:é"})],
        "the signature is damaged",
    ),
}


@pytest.mark.parametrize(("messages", "told"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_said_is_refused_by_its_place(messages: Any, told: str):
    with pytest.raises(ChatError, match=told):
        conversation(None, messages, MediaRules())


def test_a_picture_in_the_web_is_not_fetched_unasked():
    source = {"type": "url", "url": "https://example.org/x.png"}
    with pytest.raises(Refused, match="--allow-url"):
        said(user({"type": "image", "source": source}))
