"""Drafts in answers that are held to something: a form, a call, a budget, a stop
string, or the watch over what goes round in circles."""

from typing import Any

import pytest
from drafting import GREEDY, SAMPLED, Kind, Pair, Scripted, load_demo, pair
from looping import cycle_of

from mlx_gemma4.chat.tokenizer import Tokenizer
from mlx_gemma4.generation import limits

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer"},
        "kind": {"enum": ["a long word that nothing else could be", "no"]},
    },
    "required": ["name", "age", "kind"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
FORMS: list[dict[str, Any]] = [
    {"schema": SCHEMA},
    {"schema": SCHEMA, "thinking": True, "think_budget": 3},
    {"regex": "(yes|no)( really){1,9}"},
    {"grammar": 'start: "a" (" b")+ "c"'},
    {"schema": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
    {"tools": [TOOL], "tool_choice": "required"},
    {"tools": [TOOL], "tool_choice": "weather", "thinking": True, "think_budget": 2},
    {"tools": [TOOL], "strict_tools": True},
    {"tools": [TOOL], "strict_tools": True, "schema": SCHEMA},
    {"tools": [TOOL], "tool_choice": "none", "stop": ["e", "a"]},
]


def begins(asked: Pair, **options: Any) -> int:
    """Where the answer to "Hi" begins."""
    messages = [{"role": "user", "content": "Hi"}]
    return asked.processor(messages, **options).tokens.shape[1]


def thought(tokenizer: Tokenizer, before: int, length: int) -> list[int]:
    start = [tokenizer.special_tokens["<|channel>"], *tokenizer.encode("thought\n")]
    words = tokenizer.encode("Once upon a time there was a hill by the sea.")[:before]
    return [*start, *words, *cycle_of(tokenizer, length) * (90 // length)]


def check_thought(number: int, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    asked = pair("E2B")
    tokenizer = asked.processor.tokenizer
    said = thought(tokenizer, number, 7 + number % 3)
    end = [*tokenizer.encode("yes no yes"), tokenizer.special_tokens["<turn|>"]]
    with monkeypatch.context() as patch:
        patch.setattr(limits, "FILLED", 60)  # tokens of a loop: sooner seen
        Scripted(patch, begins(asked, thinking=True), [*said, *end])
        found = asked.check(
            ("assistant", "lookup", "auto")[number % 3],
            list(Kind)[number % len(Kind)],
            number,
            messages="Hi",
            thinking=True,
            max_tokens=110,
            **options,
        )
    assert found.loops == 1 and any(chunk.text for chunk in found.chunks)


def test_a_thought_in_a_loop_is_closed_at_the_same_token(monkeypatch) -> None:
    check_thought(0, monkeypatch, **GREEDY)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 12))
def test_thoughts_in_loops(number: int, monkeypatch) -> None:
    options: dict[str, Any] = GREEDY if number % 2 else SAMPLED | {"seed": number}
    check_thought(number, monkeypatch, **options)
    if number % 4 == 0:
        check_thought(number, monkeypatch, **options, think_budget=70)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(Kind))
def test_an_answer_in_a_loop_is_ended_at_the_same_token(
    kind: Kind, monkeypatch
) -> None:
    asked = pair("31B")
    said = cycle_of(asked.processor.tokenizer, 9) * 44
    Scripted(monkeypatch, begins(asked), said)
    found = asked.check("auto", kind, messages="Hi", max_tokens=300, temperature=0)
    assert found.chunks[-1].finish_reason == "loop"


@pytest.mark.parametrize("most", [0, 4])
def test_a_spent_budget_closes_a_thought(most: int, monkeypatch) -> None:
    asked = pair("E2B")
    said = thought(asked.processor.tokenizer, 5, 9)[: 12 + most]
    Scripted(monkeypatch, begins(asked, thinking=True), [*said, 1])
    options: dict[str, Any] = {"messages": "Hi", "thinking": True, "temperature": 0}
    asked.check("assistant", Kind.MIXED, **options, think_budget=most, max_tokens=24)


@pytest.mark.slow
@pytest.mark.parametrize("most", range(9))
def test_budgets_of_thoughts(most: int, monkeypatch) -> None:
    asked = pair("31B")
    said = thought(asked.processor.tokenizer, 5, 9)[: 12 + most]
    Scripted(monkeypatch, begins(asked, thinking=True), [*said, 1])
    options: dict[str, Any] = {"messages": "Hi", "thinking": True, "think_budget": most}
    for kind in Kind:
        asked.check("assistant", kind, **options, max_tokens=24, seed=most)


def check_form(number: int, variant: str, **options: Any) -> None:
    form = FORMS[number % len(FORMS)]
    if "tool_choice" not in form or form["tool_choice"] != "none":
        pytest.importorskip("llguidance", reason="needs the extra: pip install .[json]")
    kind = list(Kind)[number // 2 % len(Kind)]
    draft = ("assistant", "lookup", "auto")[number % 3]
    stop_after = (None, None, 3, None, 8)[number % 5]
    options = {"messages": "Hi", "max_tokens": 18, "seed": number, **options, **form}
    pair(variant).check(draft, kind, number, stop_after=stop_after, **options)


@pytest.mark.parametrize("number", [0, 5])
def test_a_form_and_a_call(number: int) -> None:
    check_form(number, "E2B", **SAMPLED)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(FORMS)))
@pytest.mark.parametrize("variant", ["E2B", "12B", "31B"])
def test_forms_and_calls(number: int, variant: str) -> None:
    for turn in range(4):
        at = number + turn * len(FORMS)
        check_form(at, variant, **(GREEDY if turn % 2 else SAMPLED))


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(Kind))
def test_an_answer_that_has_begun_behind_another(kind: Kind) -> None:
    asked = pair("E4B")
    for number in range(4):
        drawn = {**(GREEDY if number % 2 else SAMPLED), "seed": number}
        options: dict[str, Any] = {"messages": "Hi", "max_tokens": 20, **drawn}
        begun = asked.outcome(**options, draft="off").tokens[:number]
        before = {"messages": "Hi", "max_tokens": 9, "seed": 5, "draft": "off"}
        asked.check(
            ("assistant", "auto")[number % 2],
            kind,
            number,
            **options,
            begun=begun,
            before=before,
        )


@pytest.mark.slow
@pytest.mark.parametrize("draft", ["assistant", "lookup", "auto"])
def test_what_the_demo_says(draft: str) -> None:
    asked = load_demo()
    for number, question in enumerate(
        ["What is the capital of France?", "Say: one two one two one two", "Hi"]
    ):
        for kind in (Kind.PERFECT, Kind.MIXED):
            for options in ({"thinking": True, "temperature": 0}, {"stop": ["a"]}):
                given = {"messages": question, "max_tokens": 40, **options}
                asked.check(draft, kind, number, seed=number, **given)
