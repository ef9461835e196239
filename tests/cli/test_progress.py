"""The bar: what it draws on a terminal, and what is told where there is none."""

import io
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from mlx_gemma4.cli import progress
from mlx_gemma4.cli.progress import (
    Progress,
    bar_line,
    clock,
    transfer_line,
)
from mlx_gemma4.cli.render import ERASE_LINE, Screen
from mlx_gemma4.reading.sizes import size

GB = 10**9


class Stderr(io.StringIO):
    """A terminal, if it is told to be one."""

    terminal = True

    def isatty(self) -> bool:
        return self.terminal

    def lines(self) -> list[str]:
        """What was drawn, without colours."""
        text = re.sub(r"\x1b\[[0-9;]*m", "", self.getvalue())
        return [line for line in text.split(ERASE_LINE) if line]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stderr]:
    """Puts one in place of stderr."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(progress, "INTERVAL", 0)

    def place(terminal: bool = True) -> Stderr:
        made = Stderr()
        made.terminal = terminal
        monkeypatch.setattr(sys, "stderr", made)
        return made

    return place


def test_drawn_and_taken_away(opened: Callable[..., Stderr]) -> None:
    stderr = opened()
    with Progress(Screen(), "3 files", 3) as bar:
        bar.update(1)
    first, second = stderr.lines()
    assert first.startswith("3 files ━") and "  0%" in first
    assert " 33%" in second
    assert stderr.getvalue().endswith(ERASE_LINE)


def test_a_note_comes_between(opened: Callable[..., Stderr]) -> None:
    stderr = opened()
    bar = Progress(Screen(), "files", 3)
    bar.note("One is damaged.")
    assert [line.split()[0] for line in stderr.lines()] == ["files", "One", "files"]


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("in_bytes", [False, True])
@pytest.mark.parametrize("label", ["a.wav", "2/13 a-very-[red]long-name-of-a-talk.wav"])
def test_one_line_at_any_width(
    columns: int, in_bytes: bool, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    line = bar_line(in_bytes)(label, 50 * GB, 123 * GB)
    assert "\n" not in line and len(f"{line}^C") < columns
    assert line.startswith(label[:10]) and re.search("[━╸╺]", line)
    assert ("50.0/123.0 GB" if in_bytes else " 41%") in line
    if columns == 200:
        assert line.startswith(label)


def test_bytes_are_told_now_and_then_elsewhere(opened: Callable[..., Stderr]) -> None:
    stderr = opened(terminal=False)
    with Progress(Screen(), "Checking", 8 * GB, in_bytes=True) as bar:
        for _ in range(80):
            bar.advance(10**8)
    lines = stderr.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("Checking [###----") and "MB of 8.00 GB · " in lines[0]
    assert ERASE_LINE not in stderr.getvalue()


@pytest.mark.parametrize(("terminal", "as_json"), [(False, False), (True, True)])
def test_nothing_else_is_told_elsewhere(
    terminal: bool, as_json: bool, opened: Callable[..., Stderr]
) -> None:
    stderr = opened(terminal)
    with Progress(Screen(as_json=as_json), "files", 3, in_bytes=as_json) as bar:
        bar.update(2)
    assert set(stderr.getvalue()) <= set(ERASE_LINE)


def test_a_line_of_bytes() -> None:
    assert transfer_line("Converting", 2 * GB, 8 * GB, 10) == (
        "Converting [#######---------------------] 2.00 GB of 8.00 GB · 200 MB/s · "
        "0:30 left"
    )
    assert transfer_line("Converting", 0, 8 * GB, 0).endswith("8.00 GB")


def test_rich_is_imported_only_for_a_bar() -> None:
    code = (
        "import sys; from mlx_gemma4.cli import app; "
        "from mlx_gemma4.cli.progress import Progress; "
        "from mlx_gemma4.cli.render import Screen; Progress(Screen(), 'files', 3); "
        "sys.exit('rich' in sys.modules or 'tqdm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (75, "1:15"), (725, "12:05"), (3723, "1:02:03"), (-5, "0:00")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0.00 MB"),
        (8_520_000, "8.52 MB"),
        (99_940_000, "99.9 MB"),
        (99_960_000, "100 MB"),
        (999_600_000, "1.00 GB"),
        (65_432_000_000, "65.4 GB"),
        (132_000_000_000, "132 GB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_a_passing_line_is_cut_to_one_row(
    opened: Callable[..., Stderr], monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = opened()
    monkeypatch.setenv("COLUMNS", "20")
    Screen().passing("Loading a folder with a long name …")
    assert stderr.lines() == ["Loading a folder w…"]
