"""The conversation of an example, whichever way it is written down.

messages as OpenAI and transformers have them; ShareGPT's and LLaVA's conversations;
the pairs of Alpaca and of many tables; the texts of The Cauldron.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ..chat.messages import with_known_role
from ..errors import DataError
from .fields import (
    ANSWERS,
    MEDIA_FIELDS,
    MORE,
    QUESTIONS,
    SYSTEMS,
    TALKS,
    is_file_name,
)

Message = Mapping[str, Any]
ROLE_OF_SPEAKER = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(
        ("gpt", "assistant", "model", "chatgpt", "bard", "bing"), "assistant"
    ),
    "system": "system",
}
FORMS = "messages, prompt with completion, or text"


def form_of(values: Mapping[str, Any]) -> str:
    """The one field that says what kind of example this is. Raises DataError."""
    forms = (*TALKS, *QUESTIONS[:-1], "text")
    stated = [name for name in forms if values.get(name) is not None]
    stated = _without_repeats(values, stated)
    if not stated and values.get("input") is not None:
        stated = ["input"]  # beside an instruction it is a part of the question
    if len(stated) == 1:
        return stated[0]
    if not stated and any(
        values.get(name)
        for name in values
        if name in MEDIA_FIELDS or is_file_name(name)
    ):
        raise DataError(
            "has a medium, but no question about it: add prompt and completion"
        )
    has = " and ".join(stated) or "none"
    if not stated and values:
        has = f"none, but {', '.join(map(str, list(values)[:8]))}"
    raise DataError(f"needs one of {FORMS}; it has {has}")


def _without_repeats(values: Mapping[str, Any], stated: list[str]) -> list[str]:
    """`stated` less a prompt that the messages begin with, and less a text that is
    written out of a question and its answer: nothing is in them alone."""
    talk = next((name for name in TALKS if name in stated), None)
    if talk is not None:
        told = list(_texts(values[talk]))
        return [n for n in stated if n in TALKS or values[n] not in told]
    parts = [values.get(name) for name in (*QUESTIONS, *ANSWERS)]
    said = [part for part in parts if part]
    text = values.get("text")
    if len(stated) > 1 and isinstance(text, str):
        if all(isinstance(part, str) and part.strip() in text for part in said):
            return [name for name in stated if name != "text"]
    return stated


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


def messages_of(values: Mapping[str, Any], form: str) -> list[Message]:
    """The messages of an example that is no plain text, system message included.

    Raises DataError that says what is wrong.
    """
    if form == "messages":
        messages = _stated(values[form])
    elif form == "conversations":
        messages = _spoken(values[form])
    elif form == "texts":
        messages = _pairs(values[form], "texts")
    else:
        messages = [*_history(values), *_pair(values, form)]
    if values.get("history") and form not in QUESTIONS:
        raise DataError(f"has history beside {form}: write all turns in {form}")
    return [*_system(values, messages), *messages]


def _stated(messages: Any) -> list[Message]:
    if not isinstance(messages, list) or not all(
        isinstance(message, Mapping) for message in messages
    ):
        raise DataError("messages must be a list of {'role': …, 'content': …}")
    return [with_known_role(message) for message in messages]


def _spoken(turns: Any) -> list[Message]:
    """ShareGPT's turns; some data sets write messages under the same name."""
    if not isinstance(turns, list) or not all(isinstance(t, Mapping) for t in turns):
        raise DataError("conversations must be a list of {'from': …, 'value': …}")
    messages = []
    for number, turn in enumerate(turns):
        if "role" in turn:
            messages.append(with_known_role(turn))
            continue
        role = ROLE_OF_SPEAKER.get(str(turn.get("from")))
        if role is None:
            raise DataError(
                f"conversations[{number}] is from {turn.get('from')!r}; human, gpt and "
                "system are read. Write messages where tools are called"
            )
        rest = {k: v for k, v in turn.items() if k not in ("from", "value")}
        messages.append({"role": role, "content": turn.get("value"), **rest})
    return messages


def _pairs(turns: Any, field: str) -> list[Message]:
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{field} must be a list of {{'user': …, 'assistant': …}}")
    messages: list[Message] = []
    for number, turn in enumerate(turns):
        if isinstance(turn, Mapping):
            turn = [turn.get("user"), turn.get("assistant")]
        texts = [t for t in turn if isinstance(t, str)] if type(turn) is list else []
        if len(texts) != 2 or len(turn) != 2:
            raise DataError(f"{field}[{number}] is no question with its answer")
        messages += _asked(*texts)
    return messages


def _history(values: Mapping[str, Any]) -> list[Message]:
    return _pairs(values["history"], "history") if values.get("history") else []


def _pair(values: Mapping[str, Any], question: str) -> list[Message]:
    """A question and its answer. Raises DataError where one is missing or empty."""
    answers = [name for name in ANSWERS if values.get(name) is not None]
    if len(answers) > 1:
        raise DataError(f"has {' and '.join(answers)}: give one answer")
    asked, said = values[question], values[answers[0]] if answers else None
    beside = [name for name in MORE if name != question and values.get(name)]
    if len(beside) > 1:
        raise DataError(f"has {' and '.join(beside)}: write one text")
    more = values[beside[0]] if beside else ""
    if not isinstance(more, str):
        raise DataError(f"{beside[0]} must be text")
    if isinstance(asked, list) or isinstance(said, list):
        if more:
            raise DataError(
                f"has {beside[0]} beside messages in {question}: write it there"
            )
        return _joined_lists(asked, said)
    name = answers[0] if answers else "completion"
    if not isinstance(asked, str) or not isinstance(said, str):
        raise DataError(f"{question} and {name} must both be text")
    if not said.strip():
        raise DataError(f"{name} is empty: there is nothing to learn")
    return _asked(f"{asked}\n{more}" if more else asked, said)


def _joined_lists(asked: Any, said: Any) -> list[Message]:
    """TRL's prompt and completion, which may be messages."""
    before = _asked(asked, "")[:1] if isinstance(asked, str) else _stated(asked)
    if any(message.get("role") == "assistant" for message in before):
        raise DataError(
            "prompt holds an answer, which would be learned as well: write all turns "
            "as messages"
        )
    after = _asked("", said)[1:] if isinstance(said, str) else _stated(said)
    return [*before, *after]


def _system(values: Mapping[str, Any], messages: list[Message]) -> list[Message]:
    stated = [values[name] for name in SYSTEMS if values.get(name)]
    if not stated:
        return []
    if len(stated) > 1 or not isinstance(stated[0], str):
        raise DataError("system must be one text")
    if messages and messages[0].get("role") in ("system", "developer"):
        raise DataError("has a system message in two places")
    return [{"role": "system", "content": stated[0]}]


def _asked(question: str, answer: str) -> list[Message]:
    return [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
