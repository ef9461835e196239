"""Rendering: equal to the reference, safe against templates, clear about messages."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from conversations import random_conversation
from google_templates import google_template
from tiny_tokenizer import write_json

from mlx_gemma4.chat import template as chat
from mlx_gemma4.chat.messages import plain_messages
from mlx_gemma4.chat.template import ChatTemplate
from mlx_gemma4.errors import ChatError, CheckpointError

HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def demo(demo_folder: Path) -> ChatTemplate:
    template = ChatTemplate.from_folder(demo_folder, "<bos>", "<eos>")
    assert template is not None
    return template


def test_a_conversation_by_hand(demo: ChatTemplate):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi "}]},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    assert demo.render(messages).text == (
        "<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\nHi<turn|>\n"
        "<|turn>model\nHello<turn|>\n<|turn>user\nBye<turn|>\n<|turn>model\n"
    )


def test_thinking_is_switched_on_in_the_system_turn(demo: ChatTemplate):
    text = demo.render(HI, thinking=True).text
    assert text.startswith("<bos><|turn>system\n<|think|>\n<turn|>\n<|turn>user")


def test_a_call_its_answer_and_the_thought_before_it(demo: ChatTemplate):
    call = {"id": "1", "function": {"name": "f", "arguments": '{"a": [1, "x"]}'}}
    messages = [
        *HI,
        {"role": "assistant", "reasoning_content": "Hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "done"},
    ]
    assert demo.render(messages).text.endswith(
        "<|turn>model\n<|channel>thought\nHm\n<channel|>"
        '<|tool_call>call:f{a:[1,<|"|>x<|"|>]}<tool_call|>'
        '<|tool_response>response:f{value:<|"|>done<|"|>}<tool_response|>'
    )


def test_messages_are_not_changed_by_rendering(demo: ChatTemplate):
    call = {"id": "1", "function": {"name": "f", "arguments": '{"a": 1}'}}
    messages = [*HI, {"role": "assistant", "tool_calls": [call]}]
    before = json.dumps(messages)
    demo.render(messages)
    assert json.dumps(messages) == before


@pytest.mark.reference
@pytest.mark.filterwarnings("default")  # the reference's imports are not ours
@pytest.mark.parametrize("name", ["small", "large", "demo"])
def test_rendering_equals_the_reference(name: str, demo_folder: Path):
    from transformers.utils.chat_template_utils import render_jinja_template

    demo_file = demo_folder / "chat_template.jinja"
    source = demo_file.read_text() if name == "demo" else google_template(name)
    template = ChatTemplate(source, "<bos>", "<eos>")
    rng = Random(4)
    for _ in range(600):
        messages, options = random_conversation(rng)
        expected, _ = render_jinja_template(
            conversations=[messages],
            tools=options["tools"],
            chat_template=source,
            add_generation_prompt=options["add_generation_prompt"],
            enable_thinking=options["thinking"],
            bos_token="<bos>",
            eos_token="<eos>",
        )
        assert template.render(messages, **options).text == expected[0], (
            messages,
            options,
        )


@pytest.mark.parametrize("size", ["small", "large"])
def test_googles_templates_are_current(size: str):
    template = ChatTemplate(google_template(size), "<bos>")
    assert template.stale is None
    assert template.knows_thinking


def test_a_known_old_template_is_stale(monkeypatch: pytest.MonkeyPatch):
    assert ChatTemplate("old", "<bos>").stale is None
    digest = "cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4"
    monkeypatch.setattr(chat, "STALE_TEMPLATES", {digest})  # sha256 of "old"
    stale = ChatTemplate("old", "<bos>").stale
    assert stale is not None and "chat_template.jinja" in stale


def test_where_the_template_is_found(tmp_path: Path):
    def rendered() -> str:
        template = ChatTemplate.from_folder(tmp_path, "<bos>")
        assert template is not None
        return template.render(HI).text

    assert ChatTemplate.from_folder(tmp_path, "<bos>") is None
    config = tmp_path / "tokenizer_config.json"
    write_json(config, {"bos_token": "<bos>"})
    assert ChatTemplate.from_folder(tmp_path, "<bos>") is None
    named = [{"name": "rag", "template": "rag"}, {"name": "default", "template": "d"}]
    write_json(config, {"chat_template": named})
    assert rendered() == "d"
    write_json(config, {"chat_template": "{{ bos_token }}text"})
    assert rendered() == "<bos>text"
    write_json(tmp_path / "chat_template.json", {"chat_template": "json"})
    assert rendered() == "json"
    (tmp_path / "chat_template.jinja").write_text("jinja {{ messages[0].content }}")
    assert rendered() == "jinja Hi"


def test_templates_without_a_default_are_refused(tmp_path: Path):
    named = [{"name": "rag", "template": "rag"}]
    write_json(tmp_path / "tokenizer_config.json", {"chat_template": named})
    with pytest.raises(CheckpointError, match="no 'default' chat template"):
        ChatTemplate.from_folder(tmp_path, "<bos>")


def test_a_template_in_another_encoding_is_named(tmp_path: Path):
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"chat_template\.jinja cannot be read"):
        ChatTemplate.from_folder(tmp_path, "<bos>")


@pytest.mark.parametrize("source", ["{% if %}", "a\n{{ x", "{% endfor %}"])
def test_a_template_that_does_not_parse_is_named(source: str):
    with pytest.raises(CheckpointError, match=r"not valid Jinja \(line \d"):
        ChatTemplate(source, "<bos>")


SILENT = ("{# nothing #}", " {% if false %}x{% endif %}\n", "{% set a = messages %}")


@pytest.mark.parametrize("source", ["", " \n\t", *SILENT])
def test_a_template_that_writes_nothing_is_named(tmp_path: Path, source: str):
    file = tmp_path / "chat_template.jinja"
    file.write_text(source)
    with pytest.raises(CheckpointError) as raised:
        ChatTemplate.from_folder(tmp_path, "<bos>")
    assert str(file) in str(raised.value)
    assert "Put the chat_template.jinja of the original model" in str(raised.value)


def test_a_silent_template_is_named_wherever_it_stands(tmp_path: Path):
    write_json(tmp_path / "tokenizer_config.json", {"chat_template": SILENT[0]})
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json makes no text"):
        ChatTemplate.from_folder(tmp_path, "<bos>")


def test_a_template_that_is_silent_about_some_conversations(tmp_path: Path):
    """It writes something of a plain question, or demands more than one."""
    for source in (
        "{% if messages[0].content != 'Hi' %}x{% endif %}",
        "{% if messages | length < 2 %}{{ raise_exception('few') }}{% endif %}",
    ):
        (tmp_path / "chat_template.jinja").write_text(source)
        template = ChatTemplate.from_folder(tmp_path, "<bos>")
        assert template is not None
        with pytest.raises(CheckpointError, match="makes no text of a conversation"):
            template.render([*HI, *HI])


def test_thinking_and_tools_need_a_template_that_knows_them():
    template = ChatTemplate("{# enable_thinking, tools #}x", "<bos>")
    with pytest.raises(ChatError, match="has no thinking"):
        template.render(HI, thinking=True)
    with pytest.raises(ChatError, match="takes no tools"):
        template.render(HI, tools=[{"name": "f"}])


def call(arguments: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    return {"role": "assistant", "tool_calls": [{"id": "1", "function": function}]}


TOOL = {"role": "tool", "tool_call_id": "1", "content": "x"}


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "conversation is empty"),
        ("Hi", "must be a list"),
        (HI[0], "must be a list"),
        (["Hi"], r"messages\[0\] is a str"),
        ([{"content": "Hi"}], r"messages\[0\] has role None"),
        ([*HI, {"role": "bot", "content": ""}], r"messages\[1\] has role 'bot'"),
        ([{"role": "model"}], "has no content"),
        ([{"role": ["user"], "content": "Hi"}], "has role"),
        ([{"role": "user"}], "has no content"),
        ([{"role": "user", "content": None}], "has no content"),
        ([{"role": "assistant"}], "has no content"),
        ([{"role": "user", "content": 3}], "content is a int"),
        ([{"role": "user", "content": {"type": "text"}}], "content is a dict"),
        ([{"role": "user", "content": ["Hi"]}], r"content\[0\] must be"),
        ([{"role": "user", "content": [{"type": "text"}]}], r"content\[0\] must be"),
        ([{"role": "user", "content": [{"type": "file"}]}], r"content\[0\] must be"),
        (
            [{"role": "user", "content": [{"type": "text", "text": None}]}],
            r"content\[0\] must be",
        ),
        ([{"role": "system", "content": [{"type": "image"}]}], "holds text only"),
        ([{"role": "user", "content": "Hi", "x": {1}}], "cannot be written as JSON"),
        ([{"role": "user", "content": "Hi", "tool_calls": [1]}], "only an assistant"),
        ([{"role": "assistant", "tool_calls": {"a": 1}}], "must be a list"),
        ([{"role": "assistant", "tool_calls": [{"name": "f"}]}], r"tool_calls\[0\]"),
        ([{"role": "assistant", "content": "", "reasoning": 3}], "must be text"),
        ([call("not JSON")], r"arguments of tool_calls\[0\] are no JSON object"),
        ([call("[1]")], "no JSON object"),
        ([call('"text"')], "no JSON object"),
        ([call([1])], "no JSON object"),
        ([*HI, TOOL], r"messages\[1\] has role 'tool' but answers no call"),
        ([call({}), *HI, TOOL], "answers no call"),
        ([call({}), {**TOOL, "tool_call_id": "2"}], "answers no call"),
        ([call({}), {"role": "tool", "content": "x"}], "answers no call"),
        ([call({}), {"role": "tool", "tool_call_id": "1"}], "has no content"),
        (
            [{**call({}), "tool_responses": [{"name": "f", "response": {}}]}, TOOL],
            "answers no call",
        ),
    ],
)
def test_malformed_messages_are_named(messages: Any, message: str):
    with pytest.raises(ChatError, match=message):
        plain_messages(messages)


def test_arguments_become_a_mapping():
    expected = {"a": 1}
    for given in ('{"a": 1}', {"a": 1}):
        (message,) = plain_messages([call(given)])
        assert message["tool_calls"][0]["function"]["arguments"] == expected
    for given in (None, "{}", "", " \n", "null"):
        (message,) = plain_messages([call(given)])
        assert message["tool_calls"][0]["function"]["arguments"] == {}


def test_gemmas_own_word_for_an_assistant_is_taken(demo: ChatTemplate):
    """Tool calls and thoughts are looked for only where the assistant speaks."""
    answer = {**call({"a": 1}), "reasoning": "Hm"}
    renamed = {**answer, "role": "model"}
    assert demo.render([*HI, renamed, TOOL]) == demo.render([*HI, answer, TOOL])
    assert renamed["role"] == "model"


@pytest.mark.parametrize("size", ["small", "large"])
def test_googles_templates_take_a_model_for_an_assistant(size: str):
    template = ChatTemplate(google_template(size), "<bos>")
    said = [*HI, {"role": "assistant", "content": "<|channel>thought\nx<channel|>Ho"}]
    renamed = [*HI, {**said[1], "role": "model"}]
    assert template.render([*renamed, *HI]) == template.render([*said, *HI])


def test_media_parts_keep_their_place_but_not_their_content():
    content = [{"type": "image", "image": object()}, {"type": "text", "text": "what?"}]
    (message,) = plain_messages([{"role": "user", "content": content}])
    assert message["content"] == [{"type": "image"}, {"type": "text", "text": "what?"}]


def test_templates_see_plain_types_only():
    class Text(str):
        def secret(self) -> str:
            return "secret"

    content = [{"type": "text", "text": Text("Hi")}]
    messages = [{"role": "user", "content": Text("Hi")}, {"role": "user"}]
    messages[1]["content"] = content
    one, two = plain_messages(messages)
    assert type(one["content"]) is type(two["content"][0]["text"]) is str


def test_an_answer_may_name_the_tool_instead_of_the_call():
    answer = {"role": "tool", "name": "f", "content": "x"}
    assert plain_messages([call({}), answer, TOOL])[1]["name"] == "f"
