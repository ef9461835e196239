"""The commands that README and docs/ show: they exist, run, and print what is shown."""

import json
import re
import shlex
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from command import Runner
from pages import PAGES, Shown, blocks, commands
from PIL import Image
from places import CAPTAIN, ROOT, SHAPES

OURS = [s for s in commands() if re.search(r"(^| \| )gemma4 ", s.command)]
CAPTAIN_S = [shown for shown in OURS if "captain" in shown.command]
# The demo model stands in for those that would have to be fetched.
MODELS = {"e2b", "e2b:qat", "e4b", "26b", "MODEL"}
RUN = {
    "--version",
    "batch",
    "chat",
    "describe",
    "transcribe",
    "tune",
    "config",
    "list",
    "show",
}
NOT_RUN = {
    "--boxes": "the demo model finds nothing",
    "--ocr": "the demo model reads nothing",
    "--mic": "needs a microphone",
    "--schema": "needs llguidance, and a real model to be quick",
    "--json-object": "needs llguidance",
    "--regex": "needs llguidance",
    "--grammar": "needs llguidance",
    "clip.mp4": "needs PyAV",
    "report.pdf": "needs pypdfium2",
    "chat -c": "goes on with what was said before",
    "--session": "goes on with what was said before",
    "config edit": "opens an editor",
    "--mcp": "needs a server",
    "--tools": "needs a person to give results",
}
PICTURES = ("photo.jpg", "a.jpg", "b.jpg", "trip/1.jpg", "trip/2.jpg")
QUESTION = {"prompt": "What is the capital of France?"}
EXAMPLE = {"prompt": "Hi", "completion": "Ahoy!"}

pytestmark = pytest.mark.skipif(not PAGES, reason="no page is beside the tests")


def words_of(shown: Shown) -> list[str]:
    """Of `cat FILE | gemma4 … | jq …` the middle one."""
    pipe = [part.strip() for part in shown.command.split(" | ")]
    ours = next(part for part in pipe if part.startswith("gemma4 "))
    return shlex.split(ours)[1:]


@cache
def program() -> Any:
    from mlx_gemma4.cli.app import app

    return typer.main.get_command(app)


def parse(words: list[str]) -> None:
    """Reads a command line without running it. Raises for a wrong one."""
    command, parent, name = program(), None, "gemma4"
    while words:
        context = command.make_context(name, list(words), parent=parent)
        if not hasattr(command, "resolve_command"):
            return
        words = [*context._protected_args, *context.args]
        if words:
            name, command, words = command.resolve_command(context, words)
            parent = context


@pytest.mark.parametrize("shown", OURS, ids=str)
def test_every_command_and_option_exists(shown: Shown) -> None:
    words = words_of(shown)
    if words not in (["--version"], ["--install-completion"]):  # which act at once
        parse(words)


@pytest.mark.parametrize(
    "words", [["chatt"], ["chat", "--sytem", "x"], ["tune", "eval", "x", "--steps"]]
)
def test_a_wrong_one_would_be_found(words: list[str]) -> None:
    with pytest.raises(Exception, match="No such (command|option)"):
        parse(words)


def test_every_command_is_shown() -> None:
    typed = {words_of(shown)[0] for shown in OURS}
    assert set(program().commands) <= typed


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that are named, the current one."""
    folder = tmp_path / "elsewhere"
    (folder / "trip").mkdir(parents=True)
    for part in (SHAPES.parent, CAPTAIN.parent):
        (folder / part.name).symlink_to(part)
    for name in PICTURES:
        Image.open(SHAPES).convert("RGB").save(folder / name, quality=95)
    for name in ("talk.m4a", "a.wav", "b.wav"):
        shutil.copy(SHAPES.parent / "speech.wav", folder / name)
    (folder / "weather.py").write_text(blocks(ROOT / "docs" / "tools.md", "py")[0])
    (folder / "build.log").write_text("What is the capital of France?\n")
    (folder / "book.txt").write_text("Emma lived in Highbury.\n")
    (folder / "data.jsonl").write_text(f"{json.dumps(EXAMPLE)}\n" * 8)
    (folder / "questions.jsonl").write_text(f"{json.dumps(QUESTION)}\n" * 3)
    monkeypatch.chdir(folder)
    return folder


def run(gemma4: Runner, shown: Shown) -> str:
    """What is printed by a command typed in a clone; `| jq -r .key` takes one value."""
    pipe = [part.strip() for part in shown.command.split(" | ")]
    piped = pipe[0].removeprefix("cat ")
    typed = Path(piped).read_text() if piped != pipe[0] else None
    words = ["demo" if word in MODELS else word for word in words_of(shown)]
    done = gemma4(*words, stdin=typed)
    assert done.returncode == 0, done.stderr
    if pipe[-1].startswith("jq "):
        return f"{json.loads(done.stdout)[pipe[-1].rpartition('.')[2]]}\n"
    return done.stdout


def runs(shown: Shown) -> bool:
    words = words_of(shown)
    talks = words[0] != "chat" or any(" " in word for word in words)
    return words[0] in RUN and talks and not any(n in shown.command for n in NOT_RUN)


@pytest.mark.slow
@pytest.mark.parametrize(
    "shown", [s for s in OURS if runs(s) and s not in CAPTAIN_S], ids=str
)
def test_a_command_runs_and_prints_what_is_shown(
    shown: Shown, samples: Path, here: Runner
) -> None:
    printed = run(here, shown)
    assert not shown.printed or printed == shown.printed


def test_what_is_printed_is_compared() -> None:
    """Nothing that a page prints is left out; tests/cli/serve reads the address."""
    printing = [s for s in OURS if s.printed and words_of(s)[0] != "serve"]
    assert not [s for s in printing if not runs(s) and s not in CAPTAIN_S]


@pytest.fixture
def here(samples: Path, environ: dict[str, str]) -> Runner:
    return Runner(samples, environ)


@pytest.mark.slow
def test_the_worked_example_of_tuning(here: Runner, samples: Path) -> None:
    """Trains, compares before and after, and answers as is shown."""
    ours = [shown for shown in CAPTAIN_S if shown.page.name == "tune.md"]
    printed = [run(here, shown) for shown in ours]
    assert any(shown.printed for shown in ours)
    for text, shown in zip(printed, ours, strict=True):
        assert text == shown.printed or not shown.printed
