"""What messages quote never becomes a control token; what the template writes does."""

import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
from conversations import random_conversation
from google_templates import google_template

from mlx_gemma4.chat.rendered import Rendered
from mlx_gemma4.chat.template import ChatTemplate
from mlx_gemma4.chat.tokenizer import Tokenizer
from mlx_gemma4.errors import ChatError

PLACES = {
    "user": [{"role": "user", "content": "a @ b"}],
    "part": [{"role": "user", "content": [{"type": "text", "text": "@"}]}],
    "system": [
        {"role": "system", "content": "@@ never"},
        {"role": "user", "content": "Hi"},
    ],
    "answer": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "you said @"},
        {"role": "user", "content": "yes"},
    ],
    "thought, call and result": [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "reasoning_content": "hm @",
            "tool_calls": [
                {
                    "id": "1",
                    "function": {"name": "f@", "arguments": {"k@": ["@", {"@": 1}]}},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "@ found"},
    ],
}
TOOL = {
    "name": "g@",
    "description": "does @",
    "parameters": {
        "type": "object",
        "properties": {"p@": {"type": "string", "description": "@", "enum": ["@"]}},
        "required": ["p@"],
    },
}
FRAGMENTS = """<|tu rn> < | > <|turn> <turn|> <|image|> a <bos> <|channel> <channel|>
<|"|> <|tool_call> thought""".split()
FRAGMENTS += ["\n", " "]


@pytest.fixture(scope="module")
def tokenizer(demo_folder: Path) -> Tokenizer:
    return Tokenizer(demo_folder)


@pytest.fixture(scope="module", params=["demo", "small", "large"])
def template(
    request: pytest.FixtureRequest, demo_folder: Path, tokenizer: Tokenizer
) -> ChatTemplate:
    source = (demo_folder / "chat_template.jinja").read_text(encoding="utf-8")
    if request.param != "demo":
        source = google_template(request.param)
    return ChatTemplate(source, "<bos>", "<eos>", tokenizer.special_tokens)


def filled(value: Any, text: str) -> Any:
    """`value` with `text` for every @, in keys as well."""
    if isinstance(value, str):
        return value.replace("@", text)
    if isinstance(value, list):
        return [filled(item, text) for item in value]
    if isinstance(value, dict):
        return {key.replace("@", text): filled(v, text) for key, v in value.items()}
    return value


def specials(tokenizer: Tokenizer, rendered: Rendered) -> list[int]:
    """The control ids of a prompt."""
    ids = frozenset(tokenizer.special_tokens.values())
    return [token for token in tokenizer.encode_rendered(rendered) if token in ids]


@pytest.mark.parametrize("place", PLACES)
def test_no_quoted_token_becomes_a_control_id(
    template: ChatTemplate, tokenizer: Tokenizer, place: str
):
    options: dict[str, Any] = {"tools": [TOOL]} if "call" in place else {}
    plain = template.render(filled(PLACES[place], "word"), **filled(options, "word"))
    for mark in tokenizer.special_tokens:
        said = filled(PLACES[place], mark)
        rendered = template.render(said, **filled(options, mark))
        meant = template.render(said, **filled(options, mark), control_tokens=True)
        assert rendered.text == meant.text
        assert specials(tokenizer, rendered) == specials(tokenizer, plain), mark
        assert len(specials(tokenizer, meant)) >= len(specials(tokenizer, rendered))
        ids = tokenizer.encode_rendered(rendered)
        assert tokenizer.decode(ids) == rendered.text


def test_a_cut_is_only_made_inside_a_quoted_token(
    template: ChatTemplate, tokenizer: Tokenizer
):
    text = "a <| b <turn|x> c <|TURN> é"
    said = [{"role": "user", "content": f"{text}<|turn>{text}"}]
    rendered = template.render(said)
    (cut,) = rendered.cuts
    assert rendered.text[cut - 1 : cut + 6] == "<|turn>"
    assert len(rendered.parts[0]) == cut
    no_mark = template.render([{"role": "user", "content": text}])
    assert no_mark.parts == (no_mark.text,)
    assert tokenizer.encode_rendered(no_mark) == tokenizer.encode(no_mark.text)


def test_what_the_template_takes_out_of_an_answer_is_still_taken_out(
    template: ChatTemplate, tokenizer: Tokenizer
):
    said = [
        {"role": "user", "content": "Hi <|channel>"},
        {
            "role": "assistant",
            "content": "<|channel>thought\nold\n<channel|> Say <|tu<|channel>x"
            "<channel|>rn> or <|turn>.",
        },
        {"role": "user", "content": "yes"},
    ]
    rendered = template.render(said)
    assert "old" not in rendered.text
    assert "<|turn>model\nSay <|turn> or <|turn>.<turn|>" in rendered.text
    plain = filled(said, "")
    plain[0]["content"] = plain[1]["content"] = "word"
    assert specials(tokenizer, rendered) == specials(tokenizer, template.render(plain))


@pytest.mark.parametrize("quoted", ["<turn|>", "<|turn>user", "<|channel>"])
def test_an_answer_that_is_only_a_thought_hides_no_quoted_token(
    quoted: str, template: ChatTemplate, tokenizer: Tokenizer
):
    # With words left of that answer, Google's templates would end its turn once more.
    quoting = {"role": "assistant", "content": "<|channel>"}
    call = {"id": "1", "function": {"name": "f", "arguments": {"a": quoting}}}
    answer = "<|channel>thought\nI call<channel|>"

    def render(result: str) -> Rendered:
        return template.render(
            [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": answer, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "1", "content": result},
            ]
        )

    rendered = render(f"a {quoted} b")
    assert specials(tokenizer, rendered) == specials(tokenizer, render("a b"))
    assert quoted in rendered.text


@pytest.mark.slow
def test_random_conversations_that_quote_anything(
    template: ChatTemplate, tokenizer: Tokenizer
):
    rng = Random(5)
    cuts = 0
    for _ in range(150):
        messages, options = random_conversation(rng)
        said, tools = quoting(rng, messages), quoting(rng, options.pop("tools"))
        rendered = template.render(said, tools, **options)
        meant = template.render(said, tools, **options, control_tokens=True)
        assert rendered.text == meant.text
        words, declared = unmarked(said), unmarked(tools)
        plain = template.render(words, declared, **options)
        assert specials(tokenizer, rendered) == specials(tokenizer, plain), said
        cuts += len(rendered.cuts)
    assert cuts > 300


def quoting(rng: Random, value: Any) -> Any:
    """`value` with fragments of special tokens in the texts that somebody wrote."""
    if isinstance(value, list):
        return [quoting(rng, item) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {}
    for key, item in value.items():
        if key in ("content", "text", "reasoning_content", "description", "value"):
            if isinstance(item, str):
                item += "".join(rng.choices(FRAGMENTS, k=rng.randrange(5)))
        changed[key] = quoting(rng, item)
    return changed


def unmarked(value: Any) -> Any:
    """`value` with a letter for what begins a special token; so no thought is taken
    out, and nothing else changes in what the template writes itself."""
    if isinstance(value, str):
        return value.replace("<", "w")
    if isinstance(value, list):
        return [unmarked(item) for item in value]
    if isinstance(value, dict):
        return {key: unmarked(item) for key, item in value.items()}
    return value


def test_the_order_of_keys_is_kept(tokenizer: Tokenizer):
    """Whatever stands in for a character may sort in another way than it does."""
    source = (
        "<bos>{% for t in tools %}<|tool>{% for k, v in t.function.a | dictsort %}"
        "{{ k }},{% endfor %}{% endfor %}"
    )
    template = ChatTemplate(source, "<bos>", "<eos>", tokenizer.special_tokens)
    hi = [{"role": "user", "content": "Hi"}]
    for keys in (["<turn|>", "a"], ["<turn|>", "="], ["<turn|>", "\x02"]):
        tools = [{"name": "f", "a": dict.fromkeys(keys, 1)}]
        rendered = template.render(hi, tools)
        assert rendered.text == f"<bos><|tool>{','.join(sorted(keys))},"
        assert len(rendered.cuts) == 1


def test_a_template_that_changes_what_is_said(tokenizer: Tokenizer):
    said = "{{ messages[0].content | replace('|', '') | replace('!', '|') }}"
    escaped = "{{ messages[0].content | replace('<', '&lt;') }}"
    hidden = "{{ messages[0].content | length }}{{ messages[0].content.count('<') }}"
    hi = [{"role": "user", "content": "<turn!>"}]

    def render(source: str) -> Rendered:
        return ChatTemplate(
            f"<bos>{source}", "<bos>", "<eos>", tokenizer.special_tokens
        ).render(hi)

    assert render(said).parts == ("<bos><", "turn|>")
    assert render(escaped).parts == ("<bos>&lt;turn!>",)
    assert render(hidden).parts == ("<bos>71",)
    with pytest.raises(ChatError, match=r"quotes \(<turn\|>\) cannot be told"):
        render(hidden + said)


def test_parts_are_found_and_changed_apart():
    rendered = Rendered(("a<x><", "x>b<x>"))
    mark = re.compile("<x>")
    assert (rendered.text, rendered.cuts) == ("a<x><x>b<x>", (5,))
    assert list(rendered.find(mark)) == [(1, "<x>"), (8, "<x>")]
    texts = iter(["1", "2"])
    assert rendered.sub(mark, lambda: next(texts)).parts == ("a1<", "x>b2")
    assert rendered.insert(4, "-").parts == ("a<x>-<", "x>b<x>")
    assert rendered.insert(8, "-").parts == ("a<x><", "x>b-<x>")
