"""Answers made several at once are those made one by one, in order."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from places import SHAPES

from mlx_gemma4 import Chunk, Gemma4, Processor, Response, generate, load
from mlx_gemma4.errors import ChatError
from mlx_gemma4.generation.ordered import AHEAD, in_order

Loaded = tuple[Gemma4, Processor]
Options = dict[str, Any]


@pytest.fixture(scope="module")
def demo() -> Loaded:
    return load("demo")


def ask(text: str, **options: Any) -> Options:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 12} | options


def kinds() -> list[Options]:
    """Prompts of many lengths, drawn and not, with a picture and a sound."""
    sound = np.random.default_rng(0).uniform(-0.1, 0.1, 8000).astype(np.float32)
    picture = [{"type": "image", "path": SHAPES}, {"type": "text", "text": "What?"}]
    heard = [{"type": "audio", "audio": (sound, 16_000)}]
    lines = [ask("Hi " * n, seed=n, max_tokens=3 + n % 9) for n in range(1, 12)]
    lines[3] |= {"temperature": 0}
    lines[5] |= {"thinking": True, "think_budget": 2}
    lines[7] |= {"stop": "a"}
    return [
        *lines,
        ask("", messages=[{"role": "user", "content": picture}], temperature=0),
        ask("", messages=[{"role": "user", "content": heard}], seed=2),
    ]


def plain(response: Response) -> tuple[Any, ...]:
    return response.tokens, response.text, response.thought, response.finish_reason


def asks(lines: list[Options]) -> Iterator[Callable[[], Options]]:
    return (lambda line=line: line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_answers_are_those_of_one_by_one(rows: int, demo: Loaded) -> None:
    lines = kinds()
    alone = [plain(generate(*demo, **line)) for line in lines]
    assert len({str(tokens) for tokens, *_ in alone}) > 8
    together = [plain(Response.of(c)) for c in in_order(*demo, asks(lines), rows)]
    assert together == alone


@pytest.mark.slow
def test_what_one_raises_is_its_own(demo: Loaded) -> None:
    def fail() -> Options:
        raise ChatError("no such line")

    lines = [ask("Hi", temperature=0), ask("Hi", temperature=-1), ask("Ho", seed=1)]
    given = list(asks(lines))
    given.insert(1, fail)
    answers: list[str] = []
    for chunks in in_order(*demo, given, 3):
        try:
            answers.append(Response.of(chunks).text)
        except ChatError as error:
            answers.append(str(error)[:12])
    assert answers[1:3] == ["no such line", "temperature "]
    alone = [generate(*demo, **lines[i]).text for i in (0, 2)]
    assert [answers[0], answers[3]] == alone


def test_what_is_not_read_is_given_up(demo: Loaded) -> None:
    lines = [ask("Hi", temperature=0), ask("Who wrote Emma?", temperature=0)]
    first, second = [], []
    for number, chunks in enumerate(in_order(*demo, asks(lines), 2)):
        if number == 0:
            first.append(next(chunks))
        else:
            second += chunks
    assert len(first) == 1
    assert Response.of(second).tokens == generate(*demo, **lines[1]).tokens


def test_asking_that_breaks_off_is_told_behind_the_answers(demo: Loaded) -> None:
    def asked() -> Iterator[Callable[[], Options]]:
        yield lambda: ask("Hi", max_tokens=1)
        raise OSError("the file is gone")

    answers = in_order(*demo, asked(), 4)
    assert len(list(next(answers))) == 1
    with pytest.raises(OSError, match="the file is gone"):
        next(answers)


def test_no_more_begin_than_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many end while one before them has not."""
    from mlx_gemma4.generation import ordered

    begun: list[int] = []

    def stream(model: object, processor: object, *, number: int) -> Iterator[Chunk]:
        begun.append(number)
        for n in range(1000 if number == 0 else 1):
            yield Chunk(str(n), n)

    monkeypatch.setattr(ordered, "stream_generate", stream)
    lines = [{"number": n} for n in range(3 * AHEAD)]
    answers = in_order(None, None, asks(lines), 4)  # type: ignore[arg-type]
    assert len(list(next(answers))) == 1000
    assert len(begun) == AHEAD
    assert [len(list(chunks)) for chunks in answers] == [1] * (3 * AHEAD - 1)
    assert begun == list(range(3 * AHEAD))
