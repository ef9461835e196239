"""Which models a first conversation offers, and what becomes of the choice."""

import signal
from pathlib import Path

import pytest
import typer
from command import GREEDY, QUESTION
from holding import Shelf

from mlx_gemma4.cli.models import first_run
from mlx_gemma4.cli.models.default import keep_default, kept_default
from mlx_gemma4.cli.models.first_run import choices, first_choice
from mlx_gemma4.cli.render import Screen
from mlx_gemma4.errors import ModelNotFoundError
from mlx_gemma4.hub.names import candidates

GIB = 2**30
BIG = 10**12


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return Shelf.make(tmp_path, monkeypatch)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is typed at the questions of a terminal, in order."""
    typed: list[str] = []
    monkeypatch.setattr(first_run, "can_choose", lambda screen: not screen.as_json)
    monkeypatch.setattr("typer.prompt", lambda *_, **__: typed.pop(0))
    return typed


@pytest.fixture
def got(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """What was to be fetched, and whether without a question. There is no nix."""
    names: list[tuple[str, bool]] = []

    def obtain(name: str, screen: Screen, yes: bool) -> str:
        if name == "nix":
            raise ModelNotFoundError("There is no nix.")
        names.append((name, yes))
        return name

    monkeypatch.setattr(first_run, "obtain", obtain)
    return names


@pytest.mark.parametrize(
    ("memory", "disk", "names"),
    [
        (2**30, BIG, []),
        (8 * GIB * 2 // 3, BIG, ["e2b:8bit", "e2b:qat"]),
        (16 * GIB * 2 // 3, BIG, ["e4b:8bit", "e4b:qat", "e2b:8bit"]),
        (16 * GIB * 2 // 3, 5 * 10**9, ["e2b:qat"]),
        (
            32 * GIB * 2 // 3,
            BIG,
            ["26b:qat", "26b:4bit", "12b:8bit", "e4b:8bit", "e2b:8bit", "31b:4bit"],
        ),
    ],
)
def test_what_is_offered(
    shelf: Shelf, memory: int, disk: int, names: list[str]
) -> None:
    assert [each.name for each in choices(memory, disk)] == [*names, "demo"]


def test_what_is_here_comes_first(shelf: Shelf) -> None:
    template = ("chat_template.jinja", "tokenizer_config.json")
    shelf.fetched("org/base", lacks=template)
    shelf.converted(candidates("e4b:qat")[0])
    shelf.fetched("org/name")
    found = list(choices(16 * GIB * 2 // 3, BIG))
    names = [each.name for each in found]
    assert names == ["e4b:qat", "org/name", "e4b:8bit", "e2b:8bit", "demo"]
    assert found[0].about.startswith("is here")


def test_the_choice_is_kept(
    shelf: Shelf, answers: list[str], got: list[tuple[str, bool]]
) -> None:
    (shelf.model / "chat_template.jinja").write_text("{{ messages }}")
    shelf.fetched("org/name")
    answers += ["nix", "9999", "1"]
    assert first_choice(None, False, Screen()) == "org/name"
    assert kept_default() == "org/name" and not answers
    assert first_choice(None, False, Screen()) is None  # the default is found later
    assert got == [("org/name", True)]


def test_a_name_that_was_not_offered_is_asked_about(
    shelf: Shelf, answers: list[str], got: list[tuple[str, bool]]
) -> None:
    answers += ["org/other"]
    assert first_choice(None, False, Screen()) == "org/other"
    assert got == [("org/other", False)]


def test_none_of_them(
    shelf: Shelf, answers: list[str], got: list[tuple[str, bool]]
) -> None:
    for word in ("exit", "/bye", "No"):
        answers.append(word)
        with pytest.raises(typer.Abort):
            first_choice(None, False, Screen())
    assert kept_default() is None and not got


def test_who_is_not_asked(shelf: Shelf, answers: list[str]) -> None:
    assert first_choice("org/name", False, Screen()) == "org/name"
    assert first_choice(None, True, Screen()) is None
    assert first_choice(None, False, Screen(as_json=True)) is None
    assert kept_default() is None


def test_a_choice_that_cannot_be_kept(
    shelf: Shelf,
    answers: list[str],
    got: list[tuple[str, bool]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (shelf.model.parent / "state").write_text("no folder")
    answers += ["demo"]
    assert first_choice(None, False, Screen()) == "demo"
    said = capsys.readouterr().err
    assert "The choice is not kept: Cannot write" in said
    assert "demo is a toy" in said and "`gemma4 pull`" in said


def test_the_toy_says_each_time_what_it_is(
    shelf: Shelf, answers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    keep_default("demo")
    assert first_choice(None, False, Screen()) is None
    assert "demo is a toy" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("chat",)])
def test_on_a_terminal(terminal, gemma4, words: tuple[str, ...]) -> None:
    first = terminal(*words)
    first.wait_for(r"Which one\? \[1\]:")
    assert "demo" in first.text and "a model may use" in first.text
    first.type("demo\r")
    first.wait_for(r"demo is a toy[^>]*leaves\s*>")
    first.type("\x04")
    assert first.finish() == 0
    again = terminal(*words)
    again.wait_for(r"leaves\s*>")
    assert "Which one" not in again.text
    again.type("\x04")
    assert again.finish() == 0
    assert "Paris" in gemma4("chat", QUESTION, *GREEDY).stdout


@pytest.mark.slow
def test_leaving_the_question(terminal, gemma4) -> None:
    chat = terminal("chat")
    chat.wait_for(r"Which one\? \[1\]:")
    chat.process.send_signal(signal.SIGINT)
    assert chat.finish() == 130
    assert "No --model" in gemma4("chat", QUESTION, *GREEDY).stderr
