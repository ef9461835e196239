"""`gemma4 batch`: what is written where, and how it is gone on with."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import Command
from scripted import chunks

from mlx_gemma4 import Chunk
from mlx_gemma4.cli.batch import command
from mlx_gemma4.cli.progress import Progress
from mlx_gemma4.decoding import prefixes
from mlx_gemma4.errors import MediaError
from mlx_gemma4.generation import ordered

LINES = [{"prompt": f"Say {n}", "id": f"a{n}"} for n in range(5)]
Asked = list[dict[str, Any]]


class Stop(Exception):
    """In place of what ends a process."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asked:
    """What a scripted model was asked: it repeats the question."""
    found: Asked = []

    def answer(ask: Callable[[], dict[str, Any]]) -> Iterator[Chunk]:
        found.append(ask())
        text = found[-1]["messages"][-1]["content"]
        if text == "stop":
            raise KeyboardInterrupt
        if text == "fail":
            raise MediaError("It is damaged.")
        reason = "length" if text == "cut" else "stop"
        yield from chunks(text, finish_reason=reason)

    def in_order(model: object, processor: object, asks: Any, rows: int) -> Any:
        return map(answer, asks)

    monkeypatch.setattr(ordered, "in_order", in_order)
    monkeypatch.setattr(prefixes, "PrefixCaches", lambda *_, **__: None)
    monkeypatch.setattr(command, "open_model", lambda *_, **__: (None, None, "m"))
    monkeypatch.chdir(tmp_path)
    return found


@pytest.fixture
def gemma4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: Asked
) -> Command:
    return Command(monkeypatch, capsys)


def write(*lines: Any, name: str = "in.jsonl") -> str:
    Path(name).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return name


def read(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def batch(gemma4: Command, *words: str) -> int:
    return gemma4("batch", *words, "-m", "m")


def test_answers_in_order(gemma4: Command, asked: Asked) -> None:
    assert batch(gemma4, write(*LINES, "Hi"), "--max-tokens", "7", "--seed", "3") == 0
    answers = read(gemma4.out)
    assert [a["id"] for a in answers] == ["a0", "a1", "a2", "a3", "a4", 6]
    assert [a["text"] for a in answers] == [f"Say {n}" for n in range(5)] + ["Hi"]
    assert answers[0]["finish_reason"] == "stop" and answers[0]["model"] == "m"
    assert answers[0]["usage"]["prompt"] == 20
    assert [each["seed"] for each in asked] == [3, 4, 5, 6, 7, 8]
    assert {each["max_tokens"] for each in asked} == {7}
    assert "6 lines answered" in gemma4.err


def test_the_bar_is_there_while_an_answer_is_waited_for(
    gemma4: Command, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden: list[int] = []
    monkeypatch.setattr(Progress, "hide", lambda _: hidden.append(len(asked)))
    assert batch(gemma4, write(*LINES[:2]), "-o", "out.jsonl") == 0
    assert hidden == [1, 2, 2]


def test_what_fails_stops_none_of_the_others(gemma4: Command) -> None:
    Path("in.jsonl").write_text('{"prompt": "Hi"}\n{\n{"prompt": "fail"}\n"Ho"\n')
    assert batch(gemma4, "in.jsonl", "-o", "out.jsonl") == 5
    hi, broken, failed, ho = read(Path("out.jsonl").read_text())
    assert (hi["text"], ho["text"]) == ("Hi", "Ho")
    assert (broken["id"], broken["text"]) == (2, None)
    assert "no JSON" in broken["error"]["message"]
    assert failed["error"] == {"code": 5, "message": "It is damaged.", "hint": None}
    assert "2 lines answered" in gemma4.err
    assert "2 have an error (lines 2, 3); their answers say why." in gemma4.err
    assert gemma4.out == ""


def test_answers_to_a_device_are_not_gone_on_with(gemma4: Command) -> None:
    for _ in range(2):
        assert batch(gemma4, write("Hi"), "-o", os.devnull) == 0
        assert "1 line answered" in gemma4.err


def test_the_exit_code_is_that_of_all(gemma4: Command) -> None:
    cut = {"prompt": "cut", "json_object": True}
    assert batch(gemma4, write(cut, cut)) == 6
    assert [(a["text"], a["error"]["code"]) for a in read(gemma4.out)] == [
        ("cut", 6),
        ("cut", 6),
    ]
    assert batch(gemma4, write(cut, "fail")) == 5
    assert batch(gemma4, write("cut")) == 0  # without a form it is an answer


def enveloped(custom: str | None, text: str, **more: Any) -> dict[str, Any]:
    body = {"model": "gpt-5", "messages": [{"role": "user", "content": text}], **more}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    return line if custom is None else {"custom_id": custom, **line}


def test_openai_s_lines_are_answered_in_its_shape(gemma4: Command) -> None:
    chat = pytest.importorskip(
        "openai.types.chat", reason="the extra dev has OpenAI's client"
    )
    form = {"response_format": {"type": "json_object"}}
    lines = [enveloped("a", "Hi"), enveloped("b", "fail"), {"prompt": "Hi"}]
    lines += [enveloped(None, "cut", **form), {**lines[0], "url": "/v1/embeddings"}]
    assert batch(gemma4, write(*lines), "-o", "out.jsonl") == 5
    good, failed, own, cut, other = read(Path("out.jsonl").read_text())
    assert (good["custom_id"], good["error"]) == ("a", None)
    assert good["id"] != cut["id"] and good["id"].startswith("batch_req_")
    assert good["response"]["status_code"] == 200 and good["response"]["request_id"]
    said = chat.ChatCompletion.model_validate(good["response"]["body"])
    assert (said.object, said.model) == ("chat.completion", "m")
    assert said.choices[0].message.content == "Hi"
    assert said.choices[0].finish_reason == "stop" and said.usage is not None
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("b", 400)
    assert failed["response"]["body"]["error"]["message"] == "It is damaged."
    assert failed["error"]["message"] == "It is damaged."
    assert (own["id"], own["text"]) == (3, "Hi") and "response" not in own
    assert (cut["custom_id"], cut["error"]["code"]) == (4, "form_not_reached")
    (choice,) = cut["response"]["body"]["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("length", "cut")
    assert "url can only be" in other["error"]["message"]
    assert batch(gemma4, "in.jsonl", "-o", "out.jsonl") == 5
    assert "3 of them with an error" in gemma4.err
    assert batch(gemma4, write(lines[3], name="one.jsonl"), "-o", "one.out") == 6
    assert batch(gemma4, "one.jsonl", "-o", "one.out") == 6


def test_a_stopped_run_goes_on(gemma4: Command, asked: Asked) -> None:
    stop = {"prompt": "stop"}
    assert batch(gemma4, write(*LINES[:3], stop), "-o", "out.jsonl") == 130
    assert "3 lines answered" in gemma4.err
    first = Path("out.jsonl").read_bytes()
    write(*LINES)
    asked.clear()
    assert batch(gemma4, "in.jsonl", "-o", "out.jsonl") == 0
    assert "Going on behind 3 answers." in gemma4.err
    whole = Path("out.jsonl").read_bytes()
    assert whole.startswith(first)
    assert [a["id"] for a in read(whole.decode())] == [f"a{n}" for n in range(5)]
    assert len(asked) == 2
    assert batch(gemma4, "in.jsonl", "-o", "out.jsonl") == 0
    assert "All 5 lines are answered already." in gemma4.err
    assert Path("out.jsonl").read_bytes() == whole


def test_wherever_it_was_cut_it_becomes_the_same(gemma4: Command) -> None:
    batch(gemma4, write(*LINES[:2]), "-o", "out.jsonl")
    whole = Path("out.jsonl").read_bytes()
    for length in [0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 1]:
        Path("out.jsonl").write_bytes(whole[:length])
        assert batch(gemma4, "in.jsonl", "-o", "out.jsonl") == 0
        assert Path("out.jsonl").read_bytes() == whole
    Path("out.jsonl").write_bytes(whole + bytes(100))  # room that was not yet filled
    assert batch(gemma4, "in.jsonl", "-o", "out.jsonl") == 0
    assert Path("out.jsonl").read_bytes() == whole


def test_failures_of_an_earlier_run_count(gemma4: Command) -> None:
    batch(gemma4, write("fail"), "-o", "out.jsonl")
    assert batch(gemma4, write("fail", "Hi"), "-o", "out.jsonl") == 5
    assert batch(gemma4, write("fail", "Hi"), "-o", "out.jsonl") == 5


REFUSED: list[tuple[list[Any], list[str], str]] = [
    (LINES[:1] + LINES[2:], [], "line 2 of in.jsonl is not what it answers"),
    (LINES[:2], [], "more answers than in.jsonl has lines"),
    (LINES, ["--temperature", "0.5"], "other options"),
    (LINES, ["--system", "Be brief."], "other options"),
    (LINES, ["--max-tokens", "9"], "other options"),
    (LINES, ["--json-object"], "other options"),
]


@pytest.mark.parametrize(("lines", "words", "told"), REFUSED)
def test_answers_to_something_else_are_left_alone(
    lines: list[Any], words: list[str], told: str, gemma4: Command
) -> None:
    if "--json-object" in words:
        pytest.importorskip("llguidance", reason="needs the extra: pip install .[json]")
    batch(gemma4, write(*LINES[:3]), "-o", "out.jsonl")
    before = Path("out.jsonl").read_bytes()
    assert batch(gemma4, write(*lines), "-o", "out.jsonl", *words) == 2
    assert told in " ".join(gemma4.err.split()) and "--overwrite" in gemma4.err
    assert Path("out.jsonl").read_bytes() == before
    words = ["-o", "out.jsonl", "--overwrite", *words]
    assert batch(gemma4, "in.jsonl", *words) == 0
    assert len(read(Path("out.jsonl").read_text())) == len(lines)


def test_how_many_at_once_may_change(gemma4: Command) -> None:
    batch(gemma4, write(*LINES[:3]), "-o", "out.jsonl")
    words = ["--rows", "2", "--draft", "off"]
    assert batch(gemma4, write(*LINES), "-o", "out.jsonl", *words) == 0


@pytest.mark.parametrize("content", ["words\n", '{"a": 1}\n', "words\n\nmore"])
def test_another_file_is_not_written_over(content: str, gemma4: Command) -> None:
    Path("out.jsonl").write_text(content * 2)
    assert batch(gemma4, write("Hi"), "-o", "out.jsonl") == 2
    assert Path("out.jsonl").read_text() == content * 2


def test_a_line_that_was_cut_is_no_other_s(gemma4: Command) -> None:
    """What stands alone without an end may be anybody's, unless it begins like ours."""
    Path("out.jsonl").write_text("my only notes")
    assert batch(gemma4, write("Hi"), "-o", "out.jsonl") == 2
    assert Path("out.jsonl").read_text() == "my only notes"


def test_a_file_is_one_run_s(gemma4: Command) -> None:
    from mlx_gemma4.state import hold

    with open("out.jsonl", "wb") as other:
        hold(other.fileno(), Path("out.jsonl"))
        assert batch(gemma4, write("Hi"), "-o", "out.jsonl") == 1
    assert "another process" in gemma4.err


def test_json_tells_what_was_done(gemma4: Command) -> None:
    assert batch(gemma4, write("Hi", "fail"), "-o", "out.jsonl", "--json") == 5
    told = json.loads(gemma4.out)
    assert {k: told[k] for k in ("output", "answered", "failed", "tokens")} == {
        "output": "out.jsonl",
        "answered": 1,
        "failed": 1,
        "tokens": 1,
    }


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["none.jsonl"], 5, "There is no file none.jsonl"),
        (["in.jsonl", "-o", "in.jsonl"], 2, "read and written"),
        (["empty.jsonl"], 5, "empty.jsonl is empty"),
        (["in.jsonl", "--overwrite"], 2, "--overwrite is for"),
        (["in.jsonl", "--temperature", "1", "--min-p", "2"], 2, "min-p"),
        (["in.jsonl", "-o", "nowhere/out.jsonl"], 5, "Cannot write"),
        (["."], 5, "Cannot read"),
    ],
)
def test_what_makes_no_sense(
    words: list[str], code: int, told: str, gemma4: Command
) -> None:
    write("Hi")
    Path("empty.jsonl").write_text("\n")
    assert batch(gemma4, *words) == code
    assert told in " ".join(gemma4.err.split())
