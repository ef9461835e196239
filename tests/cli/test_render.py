"""What a command shows: on a terminal in rows and styles, elsewhere as it is."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from describing import picture
from scripted import Script, chunks
from windows import Window

from mlx_gemma4.chat.calls import ToolCall
from mlx_gemma4.cli import errors
from mlx_gemma4.cli.app import run
from mlx_gemma4.cli.render import Screen
from mlx_gemma4.cli.terminal import markdown

MARKED = "A **bold** answer that is longer than a row of forty columns.\n\n- one\n- two"
LONG = "This is longer than forty columns are, and is told beside the answer."


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Window]:
    """Opens a terminal of 40 columns, which all streams are then."""

    def open_window() -> Window:
        window = Window(monkeypatch, lines=20)
        for name in ("stdin", "stdout", "stderr"):
            monkeypatch.setattr(sys, name, window)
        monkeypatch.setattr(markdown, "INTERVAL", 0)
        monkeypatch.setattr(markdown, "SHARE", 0)
        return window

    return open_window


def tell(screen: Screen, text: str) -> None:
    for start in range(0, len(text), 7):
        screen.answer(text[start : start + 7])


def test_markdown_on_a_terminal(opened: Callable[[], Window]) -> None:
    window = opened()
    screen = Screen(markdown=True)
    tell(screen, MARKED)
    screen.note(LONG)
    assert window.rows == [
        "A bold answer that is longer than a row",
        "of forty columns.",
        "",
        "• one",
        "• two",
        "This is longer than forty columns are,",
        "and is told beside the answer.",
        "",
    ]
    assert "\x1b[1mbold\x1b[0m" in window.getvalue()


@pytest.mark.parametrize("setting", ["--plain", "NO_COLOR", "TERM"])
def test_what_was_written(
    opened: Callable[[], Window], monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    window = opened()
    if setting == "NO_COLOR":
        monkeypatch.setenv("NO_COLOR", "1")
    if setting == "TERM":
        monkeypatch.setenv("TERM", "dumb")
    screen = Screen(markdown=setting != "--plain")
    tell(screen, MARKED)
    screen.end()
    assert window.getvalue() == (
        "A **bold** answer that is longer than a\nrow of forty columns.\n\n"
        "- one\n- two\n"
    )


def test_a_terminal_that_lacks_characters(opened: Callable[[], Window]) -> None:
    window = opened()
    window.encoding = "ascii"
    screen = Screen(markdown=True)
    tell(screen, MARKED)
    screen.end()
    assert "- one" in window.rows


def test_elsewhere_nothing_changes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    screen = Screen(show_thinking=True, markdown=True)
    screen.colour = False
    screen.thought(LONG)
    tell(screen, f"\x1b[2J{MARKED}")
    screen.gap()
    screen.note(LONG)
    shown = capsys.readouterr()
    assert shown.out == f"\x1b[2J{MARKED}\n"
    assert shown.err == f"{LONG}\n{LONG}\n"


def test_thoughts_answers_and_calls_take_turns(opened: Callable[[], Window]) -> None:
    window = opened()
    screen = Screen(markdown=True)
    screen.thought(LONG[:30])
    screen.thought(LONG[30:])
    tell(screen, "I *say*\nthis")
    screen.thought("Hm.")
    screen.answer("and **that**")
    screen.tool_call(ToolCall("look", {"where": "here and there, or somewhere"}))
    screen.gap()
    screen.answer("done")
    screen.end()
    assert window.rows == [
        "This is longer than forty columns are,",
        "and is told beside the answer.",
        "I say",
        "this",
        "Hm.",
        "and that",
        '{"name": "look", "arguments": {"where":',
        '"here and there, or somewhere"}}',
        "",
        "done",
        "",
    ]
    assert '{"where": "here and' in window.getvalue()  # one line, to be copied


def test_a_passing_line_leaves_an_answer_alone(opened: Callable[[], Window]) -> None:
    window = opened()
    screen = Screen(markdown=True)
    screen.passing("Loading …")
    screen.passed()
    screen.answer("An **answer**")
    screen.passed()
    screen.note("Warning: beside it")
    assert window.rows == ["An answer", "Warning: beside it", ""]


def test_a_name_before_an_answer_is_no_markdown(opened: Callable[[], Window]) -> None:
    window = opened()
    screen = Screen(markdown=True)
    screen.plain("\nmy_*picture*.png:\n")
    screen.answer("*It* shows")
    screen.end()
    assert window.rows == ["", "my_*picture*.png:", "It shows", ""]


def test_an_answer_goes_on_below_what_others_write(
    opened: Callable[[], Window],
) -> None:
    window = opened()
    screen = Screen(markdown=True)
    tell(screen, "one\n\nA *longer* text that fills more than a row")
    window.write("\n[1]+  Stopped\n$ fg\n")
    screen.resumed()
    screen.answer(" and goes *on*")
    screen.end()
    assert window.rows == [
        "one",
        "",
        "A longer text that fills more than a row",
        "[1]+  Stopped",
        "$ fg",
        "",
        "A longer text that fills more than a row",
        "and goes on",
        "",
    ]


def test_json_is_never_rendered(opened: Callable[[], Window]) -> None:
    window = opened()
    screen = Screen(as_json=True, markdown=True)
    screen.json({"text": f"**{LONG}**"})
    screen.gap()
    assert json.loads(window.getvalue()) == {"text": f"**{LONG}**"}


def test_errors_are_broken_between_words(opened: Callable[[], Window]) -> None:
    window = opened()
    errors.report(2, LONG, "Try this and that, and something else.", as_json=False)
    assert window.rows == [
        "gemma4: This is longer than forty",
        "columns are, and is told beside the",
        "answer.",
        "Try this and that, and something else.",
        "",
    ]
    errors.report(2, LONG, None, as_json=True)
    assert json.loads(window.getvalue().splitlines()[-1])["error"]["message"] == LONG


def test_a_closed_terminal_is_told(
    opened: Callable[[], Window], monkeypatch: pytest.MonkeyPatch
) -> None:
    window = opened()
    screen = Screen(markdown=True)
    error = OSError(5, "gone")

    def fail(text: str) -> int:
        raise error

    monkeypatch.setattr(window, "write", fail)
    with pytest.raises(OSError):
        screen.answer("Hi")
    assert screen.lost is error


@pytest.mark.parametrize(("wanted", "times"), [(True, 1), (None, 0), (False, 0)])
def test_whoever_asks_for_pictures_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wanted: bool | None, times: int
) -> None:
    """Once, where the terminal cannot show them."""
    window = Window(monkeypatch, 200)
    monkeypatch.setattr(sys, "stderr", window)
    for name in ("KITTY_WINDOW_ID", "LC_TERMINAL", "KONSOLE_VERSION"):
        monkeypatch.delenv(name, raising=False)
    screen = Screen(previews=wanted)
    screen.preview(tmp_path / "a.png")
    screen.preview(tmp_path / "b.png")
    assert window.getvalue().count("No picture can be shown here") == times


@pytest.mark.parametrize("setting", ["", "--plain", "GEMMA4_PLAIN"])
def test_commands_that_print_what_a_model_says(
    opened: Callable[[], Window],
    monkeypatch: pytest.MonkeyPatch,
    seer: Script,
    setting: str,
) -> None:
    """The names of files among it are as they are."""
    monkeypatch.setenv("GEMMA4_LOG", "0")
    seer.answer = lambda messages: chunks("It is *red*.")
    said = "It is *red*." if setting else "It is red."
    if setting == "GEMMA4_PLAIN":
        monkeypatch.setenv(setting, "1")
    plain = [setting] if setting == "--plain" else []
    pictures = [picture("a_b_.png"), picture("*c*.png")]
    for arguments, shown in (
        (["chat", "hi"], [said, ""]),
        (
            ["describe", *pictures, "--each"],
            ["a_b_.png:", said, "", "*c*.png:", said, ""],
        ),
    ):
        argv = ["gemma4", *arguments, "-m", "demo", *plain]
        monkeypatch.setattr(sys, "argv", argv)
        window = opened()
        assert run(as_json=False) == 0
        assert window.rows == shown
