"""The help of every command: in words, in groups, with examples that work."""

import re
import shlex
from collections.abc import Iterator

import pytest
import typer
from command import Runner
from typer._click.core import Command, Context
from typer.core import TyperGroup
from typing_in import Typed

from mlx_gemma4 import __version__
from mlx_gemma4.cli.app import app


def commands(command: Command, context: Context) -> Iterator[tuple[Command, Context]]:
    yield command, context
    if isinstance(command, TyperGroup):
        for name, each in command.commands.items():
            yield from commands(each, Context(each, context, name))


ROOT = typer.main.get_command(app)
ALL = list(commands(ROOT, Context(ROOT, info_name="gemma4", **ROOT.context_settings)))
PATHS = [context.command_path for _, context in ALL]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    return Typed(monkeypatch, capsys)


@pytest.mark.parametrize("path", PATHS)
def test_every_argument_is_explained(path: str) -> None:
    command, _ = dict(zip(PATHS, ALL, strict=True))[path]
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    assert all(getattr(each, "help", None) for each in arguments)


@pytest.mark.parametrize("path", PATHS)
def test_no_type_of_python_is_named(path: str) -> None:
    command, context = dict(zip(PATHS, ALL, strict=True))[path]
    text = command.get_help(context)
    assert text.startswith(f"Usage: {path} ")
    assert not re.search(r"<\w+|list\[|<=|range>", text)


@pytest.mark.parametrize("path", PATHS)
def test_examples_can_be_typed(path: str) -> None:
    """Each is of its own command, and no option in it is unknown."""
    command = dict(zip(PATHS, ALL, strict=True))[path][0]
    examples = getattr(command, "examples", "").splitlines()
    assert examples
    for line in examples:
        (typed,) = re.findall(r"gemma4 ?[^|)\"]*(?:\"[^\"]*\"[^|)\"]*)?", line)
        context = ROOT.make_context("gemma4", shlex.split(typed)[1:])
        while words := context._protected_args + context.args:
            assert isinstance(context.command, TyperGroup), line
            name, found, rest = context.command.resolve_command(context, words)
            assert found is not None
            context = found.make_context(name, rest, parent=context)
        assert context.command_path.startswith(path)


def test_options_are_in_groups(typed: Typed) -> None:
    _, out, _ = typed("chat -h")
    titles = re.findall(r"^(\w.*):$", out, re.MULTILINE)
    assert titles == [
        *("Arguments", "Model", "Task", "Answer", "Files", "Output"),
        *("Options", "Examples"),
    ]
    assert "--top-p X" in out and "[from 0 to 1]" in " ".join(out.split())
    assert "default: no-think" not in out
    assert "[default: 0; from 0]" in typed("tune train -h")[1]


def test_it_fits_a_narrow_window(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setitem(ROOT.context_settings, "terminal_width", 38)
    context = Context(ROOT, info_name="gemma4", terminal_width=38)
    before, _, _ = ROOT.get_help(context).partition("Examples:")
    assert "..." not in before.partition("\n\n")[2]
    assert max(map(len, before.splitlines())) <= 40


def test_short_forms(typed: Typed) -> None:
    assert typed("-V") == typed("--version") == (0, f"gemma4 {__version__}\n", "")
    assert typed("-h") == typed("--help")
    assert typed("tune -h") == typed("tune --help")
    assert typed("tune train -h") == typed("tune train --help")


def test_as_a_module_of_python(gemma4: Runner) -> None:
    import subprocess
    import sys

    run = subprocess.run(
        [sys.executable, "-m", "mlx_gemma4", "-V"],
        cwd=gemma4.folder,
        env=gemma4.environ,
        capture_output=True,
        text=True,
    )
    assert (run.stdout, run.stderr) == (f"gemma4 {__version__}\n", "")
