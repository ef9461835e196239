"""`gemma4 batch --retry`: failures are asked again, and the file stays in order."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import Command
from scripted import chunks

from mlx_gemma4 import Chunk
from mlx_gemma4.cli.batch import again, command
from mlx_gemma4.decoding import prefixes
from mlx_gemma4.errors import MediaError
from mlx_gemma4.generation import ordered

OUT = Path("out.jsonl")
WORK = Path("out.jsonl.retry")
COUNT = 12


class Model:
    """Fails at the questions in `bad`, is stopped at `stop`; several are read ahead."""

    gemma4: Command

    def __init__(self) -> None:
        self.bad: set[str] = set()
        self.stop = ""
        self.asked: list[str] = []

    def answer(self, ask: Callable[[], dict[str, Any]]) -> Iterator[Chunk]:
        text = ask()["messages"][-1]["content"]
        self.asked.append(text)
        if text == self.stop:
            raise KeyboardInterrupt
        if text in self.bad:
            raise MediaError("It is damaged.")
        yield from chunks(text)

    def in_order(self, model: Any, processor: Any, asks: Any, rows: int) -> Any:
        ahead: list[Any] = []
        for ask in asks:
            ahead.append(ask)
            if len(ahead) == 3:
                yield self.answer(ahead.pop(0))
        for ask in ahead:
            yield self.answer(ask)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Model:
    made = Model()
    monkeypatch.setattr(ordered, "in_order", made.in_order)
    monkeypatch.setattr(prefixes, "PrefixCaches", lambda *_, **__: None)
    monkeypatch.setattr(command, "open_model", lambda *_, **__: (None, None, "m"))
    monkeypatch.chdir(tmp_path)
    return made


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Model
) -> Callable[..., int]:
    gemma4 = model.gemma4 = Command(monkeypatch, capsys)

    def batch(*words: str, count: int = COUNT) -> int:
        lines = (json.dumps({"prompt": f"q{n}"}) for n in range(count))
        Path("in.jsonl").write_text("\n".join(lines))
        model.asked.clear()
        return gemma4("batch", "in.jsonl", "-o", str(OUT), "-m", "m", *words)

    return batch


Run = Callable[..., int]


def said() -> list[str | None]:
    answers = [json.loads(line) for line in OUT.read_text().splitlines()]
    assert [answer["id"] for answer in answers] == list(range(1, len(answers) + 1))
    return [answer["text"] for answer in answers]


def expected(failed: set[str], count: int = COUNT) -> list[str | None]:
    return [None if f"q{n}" in failed else f"q{n}" for n in range(count)]


def test_failures_are_asked_again(model: Model, run: Run) -> None:
    model.bad = {"q0", "q5", "q6", "q11"}
    assert run() == 5
    assert run() == 5 and model.asked == []  # unless it is asked for
    model.bad = {"q6"}
    assert run("--retry") == 5
    assert model.asked == ["q0", "q5", "q6", "q11"]
    assert said() == expected({"q6"}) and not WORK.exists()
    model.bad = set()
    assert run("--retry", count=14) == 0
    assert model.asked == ["q6", "q12", "q13"]
    assert said() == expected(set(), 14)
    whole = OUT.stat()
    assert run("--retry", count=14) == 0 and model.asked == []
    assert os.path.samestat(whole, OUT.stat())  # nothing was written anew


@pytest.mark.parametrize("stop", ["q1", "q4", "q9", "q12", "q14"])
def test_a_stop_loses_nothing(stop: str, model: Model, run: Run) -> None:
    bad = {"q1", "q4", "q5", "q9"}
    model.bad = bad
    run()
    model.bad, model.stop = set(), stop
    assert run("--retry", count=16) == 130
    left = {name for name in bad if int(name[1:]) >= int(stop[1:])}
    assert said() == expected(left, max(COUNT, int(stop[1:])))
    assert not WORK.exists()
    model.stop = ""
    assert run("--retry", count=16) == 0
    assert said() == expected(set(), 16)


@pytest.mark.slow
@pytest.mark.parametrize("length", [0, 1, 100, 500, 1000, 1500, 2000])
@pytest.mark.parametrize("words", [[], ["--retry"]])
def test_a_killed_one_is_gone_on_with(
    length: int, words: list[str], model: Model, run: Run
) -> None:
    """Wherever it was killed, and if the next run does not ask again."""
    bad = {"q1", "q4", "q5", "q9"}
    run()
    whole = OUT.read_bytes()
    model.bad = bad
    run("--overwrite")
    WORK.write_bytes(whole[:length])
    reached = whole[:length].count(b"\n")
    left = {name for name in bad if int(name[1:]) >= reached}
    model.bad = set()
    assert run(*words) == (0 if words or not left else 5)
    assert said() == expected(set() if words else left)
    assert model.asked == (sorted(left) if words else [])
    assert not WORK.exists()


def test_what_failed_may_be_mended(model: Model, run: Run) -> None:
    model.bad = {"q3"}
    run()
    words = ("batch", "in.jsonl", "-o", str(OUT), "-m", "m", "--retry")
    gemma4 = model.gemma4
    assert gemma4(*words, "--temperature", "0.5") == 2  # not with other options
    lines = Path("in.jsonl").read_text()
    Path("in.jsonl").write_text(lines.replace("q4", "q44"))
    assert gemma4(*words) == 2 and "line 5 of in.jsonl" in gemma4.err
    Path("in.jsonl").write_text(lines.replace("q3", "q33"))
    assert gemma4(*words) == 0
    assert said() == [text and text.replace("q3", "q33") for text in expected(set())]


@pytest.mark.parametrize("piped", [False, True])
def test_a_line_that_was_taken_out_spoils_no_answers(
    piped: bool, model: Model, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.bad = {f"q{n}" for n in range(7)}
    run()
    before = OUT.read_bytes()
    lines = Path("in.jsonl").read_bytes().splitlines(keepends=True)
    fewer = b"".join(lines[1:])
    Path("in.jsonl").write_bytes(fewer)
    reads, writes = os.pipe()
    os.write(writes, fewer)
    os.close(writes)
    model.asked.clear()
    words = ("-o", str(OUT), "-m", "m", "--retry")
    with os.fdopen(reads) as pipe:
        monkeypatch.setattr(sys, "stdin", pipe)
        assert model.gemma4("batch", "-" if piped else "in.jsonl", *words) == 2
    assert "is not what it answers" in model.gemma4.err
    assert OUT.read_bytes() == before and model.asked == []


def test_a_full_disk(model: Model, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    model.bad = {"q1", "q4"}
    run()
    before, model.bad = OUT.read_bytes(), set()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(again.Again, "write", full)
        patch.setattr(again.os, "replace", full)
        assert run("--retry") == 4
    assert OUT.read_bytes() == before and WORK.exists()
    assert run("--retry") == 0 and said() == expected(set())


def test_one_of_another_file_is_left_alone(model: Model, run: Run) -> None:
    run()
    WORK.write_text('{"id": 1, "text": "q0", "key": "other-options"}\n')
    assert run() == 2 and WORK.exists()
    assert said() == expected(set())
    assert run("--overwrite") == 0 and not WORK.exists()


@pytest.mark.parametrize("shift", [1, 2])
def test_answers_that_a_user_laid_there_replace_none(
    shift: int, model: Model, run: Run
) -> None:
    model.bad = {"q1"}
    run()
    before = OUT.read_bytes()
    WORK.write_bytes(b"".join(before.splitlines(keepends=True)[shift:]))
    laid = WORK.read_bytes()
    assert run("--retry") == 2 and "is of another file" in model.gemma4.err
    assert (OUT.read_bytes(), WORK.read_bytes()) == (before, laid)


def test_questions_may_not_lie_there(model: Model, run: Run) -> None:
    run()
    OUT.unlink()
    questions = Path("in.jsonl").rename(WORK).read_bytes()
    for words in ([], ["--overwrite"]):
        assert model.gemma4("batch", WORK, "-o", OUT, "-m", "m", *words) == 2
        assert WORK.read_bytes() == questions and not OUT.exists()


def test_links_and_permissions_stay(model: Model, run: Run) -> None:
    real = Path("real.jsonl")
    OUT.symlink_to(real)
    model.bad = {"q2"}
    run()
    real.chmod(0o640)
    model.bad = set()
    assert run("--retry") == 0 and said() == expected(set())
    assert OUT.is_symlink() and real.stat().st_mode & 0o777 == 0o640


def test_it_needs_a_file(run: Run) -> None:
    assert run("-o", "-", "--retry") == 2
