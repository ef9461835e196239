"""What the model answers to some of its examples, as it will when it serves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..generation.loop import generate
from ..model import Gemma4
from ..prompt.processor import Processor
from .records import Record

LONGEST = 128  # tokens of an answer


@dataclass(frozen=True)
class Sample:
    """The last question of a conversation, the answer given, and the one wanted."""

    question: str
    answer: str
    wanted: str


def samples(
    model: Gemma4, processor: Processor, records: Sequence[Record], count: int
) -> Iterator[Sample]:
    """Greedy answers to the first `count` records that end with an answer."""
    asked = [r for r in records if r.messages and r.messages[-1]["role"] == "assistant"]
    for record in asked[:count]:
        *before, last = record.messages
        if not before:
            continue
        response = generate(
            model,
            processor,
            before,
            tools=list(record.tools) or None,
            thinking=record.thinking,
            temperature=0,
            max_tokens=LONGEST,
        )
        answer = response.text
        if response.tool_calls:
            calls = [f"{call.name}{call.arguments}" for call in response.tool_calls]
            answer += " ".join(calls)
        yield Sample(_text(before[-1]), answer, _text(last))


def _text(message: Any) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", f"<{part['type']}>") for part in content)
