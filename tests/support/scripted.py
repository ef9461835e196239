"""A scripted model and user, for tests of the conversation loop."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from mlx_gemma4 import Chunk, Stats

if TYPE_CHECKING:
    from mlx_gemma4.cli.chat.session import Session


class Script:
    """Stands in for `stream_generate`: answers by rule, and keeps what it was asked."""

    def __init__(self, answer: Callable[[list[dict]], Iterable[Chunk]]) -> None:
        self.answer = answer
        self.asked: list[SimpleNamespace] = []

    def __call__(self, model, processor, messages, **options: Any) -> Iterator[Chunk]:
        self.asked.append(SimpleNamespace(messages=list(messages), **options))
        yield from self.answer(messages)


def echo(messages: list[dict]) -> list[Chunk]:
    return chunks(f"you said {messages[-1]['content']}")


def chunks(text: str, **last: Any) -> list[Chunk]:
    """`text` word by word; the last chunk ends the answer."""
    words = [Chunk(word + " ", token=1) for word in text.split(" ")[:-1]]
    stats = Stats(
        prompt_tokens=20,
        cached_tokens=8,
        seed=7,
        completion_tokens=len(words) + 1,
        time_to_first_token=0.25,
        prefill_seconds=0.25,
        decode_seconds=0.5,
        peak_memory=1_500_000_000,
    )
    end = {"finish_reason": "stop", "stats": stats, **last}
    return [*words, Chunk(text.split(" ")[-1], token=1, **end)]


class Lines:
    """A reader that types the given lines, then Ctrl-D. An exception is raised."""

    def __init__(self, *lines: str | BaseException) -> None:
        self.lines = list(lines)
        self.prompts: list[str] = []
        self.drafts: list[str] = []

    def read(self, prompt: str, draft: str = "") -> str:
        self.prompts.append(prompt)
        self.drafts.append(draft)
        line = self.lines.pop(0) if self.lines else EOFError()
        if isinstance(line, BaseException):
            raise line
        return line


def roles(session: "Session") -> str:
    return " ".join(message["role"] for message in session.chat.messages)


def shapes(message: dict[str, Any]) -> list[str]:
    """The parts of a message: file names of media, and text."""
    content = message["content"]
    if isinstance(content, str):
        return [content]
    return [p["text"] if "text" in p else Path(p["path"]).name for p in content]


def branch(which: str | None = None) -> list[str]:
    """What is said in a kept conversation, on the branch that is gone on with."""
    from mlx_gemma4.cli.logs.store import opened

    with opened() as store:
        return [t.message["content"] for t in store.turns(store.found(which))]
