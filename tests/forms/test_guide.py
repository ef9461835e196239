"""Answers of a form: valid by construction, closed in time, refused where they cannot
be."""

import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_map

from mlx_gemma4 import (
    Chat,
    Gemma4,
    Processor,
    Response,
    generate,
    load,
    stream_generate,
)
from mlx_gemma4.errors import ChatError, install_command
from mlx_gemma4.forms import guide
from mlx_gemma4.forms.calls import Calls
from mlx_gemma4.forms.form import asking, form_of
from mlx_gemma4.forms.guide import Guide, Place

pytest.importorskip("llguidance", reason="needs the extra: pip install .[json]")

PERSON = "name, age int"


@pytest.fixture(scope="module")
def demo(demo_folder: Path) -> tuple[Gemma4, Processor]:
    return load(demo_folder)


@pytest.fixture(scope="module")
def wild(demo_folder: Path) -> tuple[Gemma4, Processor]:
    """The demo's shape with random weights."""
    model, processor = load(demo_folder)
    mx.random.seed(0)
    model.language_model.update(
        tree_map(
            lambda x: mx.random.normal(x.shape) * 0.05 if x.ndim > 1 else x,
            model.language_model.parameters(),
        )
    )
    return model, processor


def answer(loaded: tuple[Gemma4, Processor], **options: Any) -> Response:
    options = {"temperature": 2.0, "top_p": 1.0, "top_k": 0, "seed": 1, **options}
    model, processor = loaded
    return generate(model, processor, "What is in it?", **options)


@pytest.mark.slow
def test_an_answer_of_a_schema_a_regex_and_a_grammar(wild) -> None:
    found = json.loads(answer(wild, schema=PERSON, max_tokens=30).text)
    assert list(found) == ["name", "age"] and type(found["age"]) is int
    assert answer(wild, regex="(yes|no)").text in ("yes", "no")
    text = answer(wild, grammar='start: "a" (" b")+ "c"', max_tokens=9).text
    assert re.fullmatch("a( b)+c", text)


def test_tokens_that_must_come_take_no_step_of_their_own(wild, monkeypatch) -> None:
    model, processor = wild
    calls: list[int] = []
    plain = type(model).__call__

    def counted(self: Gemma4, inputs: mx.array, **options: Any) -> mx.array:
        calls.append(inputs.shape[1])
        return plain(self, inputs, **options)

    monkeypatch.setattr(type(model), "__call__", counted)
    schema = {"enum": ["a long word that nothing else could be"]}
    found = answer((model, processor), schema=schema)
    assert json.loads(found.text) == schema["enum"][0]
    assert len(calls) <= 4 < len(found.tokens)


@pytest.mark.slow
def test_the_answer_goes_on_from_where_it_was_cut(wild) -> None:
    fields = dict.fromkeys(("one", "two"), {"enum": [1, "no", 25]})
    schema = {"type": "object", "properties": fields, "required": ["one", "two"]}
    schema["additionalProperties"] = False
    whole = answer(wild, schema=schema)
    assert whole.finish_reason == "stop"
    for cut in range(1, len(whole.tokens) - 1):
        rest = answer(wild, schema=schema, begun=whole.tokens[:cut])
        assert rest.tokens == whole.tokens


def test_a_spent_budget_closes_the_answer(wild) -> None:
    schema = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    found = answer(wild, schema=schema, max_tokens=3)
    assert isinstance(json.loads(found.text), list)
    assert len(found.tokens) < 12 and found.finish_reason == "closed"


def test_what_cannot_be_closed_is_cut(wild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guide, "ROOM", 8)
    found = answer(wild, regex="[a-z]{4000}", max_tokens=5)
    assert found.finish_reason == "length" and len(found.tokens) == 13


def test_a_thought_is_free_and_has_to_end(demo) -> None:
    model, processor = demo
    marks = processor.tokenizer.special_tokens
    form = form_of(None, "yes", None)
    assert form is not None
    rows = model.config.text_config.token_rows
    follower = Guide(form, processor, rows, thinking=True)
    first = follower.allowed()
    assert first is not None and first[0, marks["<|channel>"]].item()
    follower.advance(marks["<|channel>"])
    assert follower.place is Place.THOUGHT and not follower.is_valid
    inside = follower.allowed()
    assert inside is not None and not any(
        inside[0, end].item() for end in follower.ends
    )
    assert not inside[0, marks["<|tool_call>"]].item()  # none is declared
    assert inside.sum().item() == rows - len(follower.ends) - 1
    follower.budget = 1
    closing = follower.allowed()
    assert closing is not None and closing.sum().item() == 1
    assert closing[0, marks["<channel|>"]].item()
    follower.advance(marks["<channel|>"])
    body = follower.allowed()
    assert body is not None and not body[0, marks["<|channel>"]].item()


@pytest.mark.slow
def test_a_thought_before_the_answer(demo) -> None:
    found = answer(demo, regex="(yes|no)", thinking=True, max_tokens=60)
    assert found.text in ("yes", "no")


def test_a_call_may_take_the_place_of_the_answer(demo) -> None:
    model, processor = demo
    call = processor.tokenizer.special_tokens["<|tool_call>"]
    form = form_of(PERSON, None, None)
    assert form is not None
    rows = model.config.text_config.token_rows
    follower = Guide(form, processor, rows, calls=Calls())
    first = follower.allowed()
    assert first is not None and first[0, call].item()
    follower.advance(call)
    assert follower.allowed() is None and not follower.is_valid
    follower.advance(processor.tokenizer.special_tokens["<tool_call|>"])
    behind = follower.allowed()
    assert behind is not None and follower.is_valid
    assert behind.sum().item() == 1 + len(follower.ends) and behind[0, call].item()
    without = Guide(form, processor, rows).allowed()
    assert without is not None and not without[0, call].item()


def test_a_call_behind_a_thought_and_within_one(demo) -> None:
    model, processor = demo
    marks = processor.tokenizer.special_tokens
    form = form_of(PERSON, None, None)
    assert form is not None
    rows = model.config.text_config.token_rows
    for way in (["<|channel>", "<channel|>"], ["<|channel>"]):
        follower = Guide(form, processor, rows, thinking=True, calls=Calls())
        for mark in way:
            follower.advance(marks[mark])
        allowed = follower.allowed()
        assert allowed is not None and allowed[0, marks["<|tool_call>"]].item()
        follower.advance(marks["<|tool_call>"])
        assert follower.place is Place.CALL and not follower.is_valid


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"schema": {"enum": ["<eos> x <|turn>"]}}, '"<eos> x <|turn>"'),
        ({"regex": "<pad>yes<channel[|]>"}, "<pad>yes<channel|>"),
        ({"regex": r"call:foo\{a:1\}"}, "call:foo{a:1}"),
        ({"regex": "thought\nyes"}, "thought\nyes"),
    ],
)
def test_text_that_looks_like_a_mark(wild, form: dict[str, Any], text: str) -> None:
    found = answer(wild, **form)
    assert found.text == text and not found.tool_calls
    assert found.finish_reason == "stop"


@pytest.mark.slow
def test_an_answer_cut_in_what_was_forced(wild) -> None:
    found = answer(wild, schema={"const": "ab c1 " * 400}, max_tokens=1)
    assert found.finish_reason == "length"


def test_an_answer_that_ends_with_its_budget_was_not_closed(wild) -> None:
    free = answer(wild, regex="(yes|no)")
    exact = answer(wild, regex="(yes|no)", max_tokens=len(free.tokens))
    assert exact.tokens == free.tokens and exact.finish_reason == "stop"


def test_the_way_to_an_end_does_not_go_round_in_circles(wild) -> None:
    found = answer(wild, regex=r"[a-z]+@[a-z]+[#]", max_tokens=1)
    assert found.finish_reason == "closed" and found.text.endswith("#")


@pytest.mark.slow
def test_what_is_forced_is_read_in_chunks(wild, monkeypatch) -> None:
    model, processor = wild
    lengths: list[int] = []
    plain = type(model).hidden

    def noted(self: Gemma4, inputs: mx.array, **options: Any) -> mx.array:
        lengths.append(inputs.shape[1])
        return plain(self, inputs, **options)

    schema = {"const": "ab c1 " * 40}
    whole = answer(wild, schema=schema)
    monkeypatch.setattr(type(model), "hidden", noted)
    found = answer((model, processor), schema=schema, prefill_step=16)
    assert max(lengths) <= 16 and found.tokens == whole.tokens


def test_the_model_is_told_the_form() -> None:
    form = form_of(None, "yes|no", None)
    assert form is not None
    told = "Answer with text of this regular expression:\nyes|no"
    history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "."}]
    first, *others = asking(history, form)
    assert first == {"role": "system", "content": told} and others == history
    brief = {"role": "system", "content": "Be brief."}
    first, *others = asking([brief, *history], form)
    assert first["content"] == f"Be brief.\n\n{told}" and others == history
    assert brief["content"] == "Be brief."
    parts = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    (first,) = asking([parts], form)
    assert first["content"] == [{"type": "text", "text": f"Be brief.\n\n{told}"}]


@pytest.mark.slow
def test_each_turn_reads_only_what_is_new(demo) -> None:
    model, processor = demo
    fields = {f"field{n}": {"type": "boolean", "description": "so"} for n in range(20)}
    schema = {"type": "object", "properties": fields, "required": list(fields)[:1]}
    chat = Chat(model, processor, temperature=0, max_tokens=20, schema=schema)
    before = chat.ask("Who wrote Emma? " * 20).stats
    after = chat.ask("And when?").stats
    assert before is not None and after is not None
    assert after.cached_tokens >= before.prompt_tokens


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"schema": {"unevaluatedProperties": False}}, "unevaluatedProperties"),
        ({"schema": '{"type": 3}'}, "No answer can be held to this form"),
        ({"regex": "(?=x)y"}, "look-around"),
        ({"grammar": "start: x"}, 'unknown name: "x"'),
        ({"regex": "x", "schema": {}}, "Give one of schema and regex"),
        ({"regex": "x", "stop": "y"}, "stop would cut an answer of a form"),
    ],
)
def test_forms_that_are_refused(demo, options: dict[str, Any], said: str) -> None:
    model, processor = demo
    with pytest.raises(ChatError, match=re.escape(said)):
        stream_generate(model, processor, "Hi", **options)


def test_without_llguidance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(ChatError, match=re.escape(install_command("json"))):
        form_of(PERSON, None, None)


class Schemas:
    """Random ones, of what llguidance knows."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def one(self, depth: int = 0) -> dict[str, Any]:
        leaves = ["string", "integer", "number", "boolean", "null"]
        kinds = [*leaves, "enum", "const", "pattern", "length", "range"]
        nested = ["object", "array", "anyOf"] if depth < 3 else []
        kind = self.random.choice([*kinds, *nested * 2])
        return {"type": kind} if kind in leaves else getattr(self, kind)(depth)

    def enum(self, depth: int) -> dict[str, Any]:
        values = ["red", "green", 'a "b" \\ é', 1, 2.5, None, True, {"x": []}]
        return {"enum": self.random.sample(values, 3)}

    def const(self, depth: int) -> dict[str, Any]:
        return {"const": self.random.choice(["x", 3, None, [1, 2]])}

    def pattern(self, depth: int) -> dict[str, Any]:
        patterns = ["^[A-Z]{2}[0-9]{3}$", "^a+b?$", r"^\d{4}-\d{2}$"]
        return {"type": "string", "pattern": self.random.choice(patterns)}

    def length(self, depth: int) -> dict[str, Any]:
        most = self.random.randint(1, 10)
        return {"type": "string", "minLength": 1, "maxLength": most}

    def range(self, depth: int) -> dict[str, Any]:
        least = self.random.randint(-5, 5)
        most = self.random.randint(6, 200)
        return {"type": "integer", "minimum": least, "maximum": most}

    def object(self, depth: int) -> dict[str, Any]:
        count = self.random.randint(0, 4)
        fields = {f"k{n}": self.one(depth + 1) for n in range(count)}
        return {
            "type": "object",
            "properties": fields,
            "required": self.random.sample(
                sorted(fields), self.random.randint(0, count)
            ),
            "additionalProperties": self.random.random() < 0.2,
        }

    def array(self, depth: int) -> dict[str, Any]:
        least, most = self.random.randint(0, 2), self.random.randint(2, 5)
        items = self.one(depth + 1)
        return {"type": "array", "items": items, "minItems": least, "maxItems": most}

    def anyOf(self, depth: int) -> dict[str, Any]:
        return {"anyOf": [self.one(depth + 1), self.one(depth + 1)]}


def invalid(loaded: tuple[Gemma4, Processor], count: int, seed: int) -> Iterator[str]:
    """What answers of random schemas, by random weights, do not satisfy theirs."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is missing")
    schemas = Schemas(seed)
    for number in range(count):
        schema = schemas.one()
        found = answer(loaded, schema=schema, max_tokens=60, seed=number)
        try:
            jsonschema.validate(json.loads(found.text), schema)
        except (ValueError, jsonschema.ValidationError) as error:
            yield f"{schema}: {found.text[:200]} ({error})"


@pytest.mark.slow
def test_some_random_schemas(wild) -> None:
    assert list(invalid(wild, 2, seed=1)) == []


@pytest.mark.slow
def test_two_hundred_random_schemas(wild) -> None:
    assert list(invalid(wild, 200, seed=3)) == []
