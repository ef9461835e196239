"""Keys while an answer is shown: unseen, kept for the next prompt, and Ctrl-Z."""

import os
import pty
import shutil
import signal
import termios
import time
from collections.abc import Iterator
from select import select

import pytest
from command import COMMAND, ENDLESS, Terminal
from prompt_toolkit.input.typeahead import clear_typeahead, get_typeahead
from prompt_toolkit.input.vt100 import Vt100Input

from mlx_gemma4.cli.terminal.keyboard import Interrupt, Keyboard, SecondInterrupt

LFLAG = 3
SHOWN = termios.ECHO | termios.ICANON


class Line:
    """A pseudo-terminal: `keys` are typed at one end, `input` is the other."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        self.stream = os.fdopen(slave, "r", encoding="utf-8")
        self.input = Vt100Input(self.stream)

    def type(self, keys: str) -> None:
        """Keys, held ones: they are not lines before Enter."""
        os.write(self.master, keys.encode())
        assert select([self.stream], [], [], 30)[0]

    def shown(self) -> bool:
        return bool(termios.tcgetattr(self.stream)[LFLAG] & SHOWN)

    def typed(self) -> str:
        """What the next prompt finds."""
        waiting = [key.data for key in get_typeahead(self.input)]
        os.set_blocking(self.stream.fileno(), False)
        try:
            return "".join(waiting) + os.read(self.stream.fileno(), 999).decode()
        except BlockingIOError:
            return "".join(waiting)


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    clear_typeahead(line.input)
    yield line
    line.stream.close()
    os.close(line.master)


def test_keys_are_unseen_and_wait(line):
    before = termios.tcgetattr(line.stream)
    with Interrupt(Keyboard(line.input)):
        assert not line.shown()
        line.type("typed \x04 ahead\r")
    assert termios.tcgetattr(line.stream) == before
    assert line.typed() == "typed \x04 ahead\r"
    os.set_blocking(line.master, False)
    with pytest.raises(BlockingIOError):  # nothing was echoed
        os.read(line.master, 999)


def test_what_was_typed_before_a_question_is_no_answer_to_it(line):
    interrupt = Interrupt(Keyboard(line.input))
    with interrupt:
        line.type("y\r")
    interrupt.set_aside()
    assert line.shown()
    os.set_blocking(line.stream.fileno(), False)
    with pytest.raises(BlockingIOError):
        os.read(line.stream.fileno(), 999)
    assert line.typed() == "y\r"


def test_keys_wait_where_an_answer_fails(line):
    keyboard = Keyboard(line.input)
    with pytest.raises(KeyboardInterrupt), Interrupt(keyboard):
        line.type("kept")
        signal.raise_signal(signal.SIGINT)
    assert line.shown() and line.typed() == "kept"


def test_a_shell_gets_no_keys_of_a_conversation_that_was_left(line):
    interrupt = Interrupt(Keyboard(line.input))
    with pytest.raises(SecondInterrupt), interrupt:
        line.type("rm -r x\r")
        interrupt.stopped()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert line.shown() and line.typed() == ""


def test_while_suspended_the_terminal_is_the_shell_s(line, monkeypatch):
    stopped: list[tuple[int, bool]] = []

    def stop(process: int, number: int) -> None:
        assert process == os.getpid()
        assert signal.getsignal(number) is signal.SIG_DFL
        stopped.append((number, line.shown()))
        signal.raise_signal(signal.SIGCONT)

    monkeypatch.setattr(os, "kill", stop)
    before = [signal.getsignal(n) for n in (signal.SIGTSTP, signal.SIGCONT)]
    with Interrupt(Keyboard(line.input)) as interrupt:
        assert not interrupt.resumed()
        line.type("one ")
        for _ in range(2):
            signal.raise_signal(signal.SIGTSTP)
            assert not line.shown()
            assert interrupt.resumed() and not interrupt.resumed()
        line.type("two\x1b[A")
    assert stopped == [(signal.SIGTSTP, True)] * 2
    assert before == [signal.getsignal(n) for n in (signal.SIGTSTP, signal.SIGCONT)]
    assert line.shown() and line.typed() == "one two\x1b[A"


def test_ctrl_z_that_is_ignored_stays_so(line, monkeypatch):
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("stopped"))
    before = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        with Interrupt(Keyboard(line.input)):
            signal.raise_signal(signal.SIGTSTP)
        assert signal.getsignal(signal.SIGTSTP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTSTP, before)


def test_a_paste_stays_one_message(line, capfd):
    with Interrupt(Keyboard(line.input)):
        assert capfd.readouterr().out == "\x1b[?2004h"
    assert capfd.readouterr().out == "\x1b[?2004l"


@pytest.fixture
def shell(gemma4) -> Iterator[Terminal]:
    """An interactive shell with job control, from which all is started."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is missing")
    process, master = pty.fork()
    if process == 0:
        environ = {**gemma4.environ, "PS1": "SHELL$ ", "TERM": "xterm"}
        os.chdir(gemma4.folder)
        os.execve(bash, [bash, "--norc", "--noediting", "-i"], environ)
    yield Terminal(None, master)  # type: ignore[arg-type]
    os.close(master)
    os.waitpid(process, 0)


@pytest.mark.slow
def test_ctrl_z_in_a_shell(shell: Terminal):
    """At the prompt and while it answers; keys from before and behind it wait."""
    shell.wait_for(r"SHELL\$")
    shell.type(" ".join([*COMMAND, "chat", "-m", "demo", *ENDLESS]) + "\r")
    shell.wait_for(r"leaves\s*>")
    shell.type("\x1a")
    shell.wait_for(r"Stopped[^$]*SHELL\$")
    shell.type("fg\r")
    shell.wait_for(r"fg[^>]*\n> ")
    shell.type("go on\r")
    shell.wait_for_answer()
    shell.type("typed")
    time.sleep(0.5)
    shell.type("\x1a")
    shell.wait_for(r"Stopped[^$]*SHELL\$")
    assert "typed" not in shell.text
    shell.type("stty -a\r")
    shell.wait_for(r" icanon(.|\n)* echo (.|\n)*SHELL\$")
    shell.type("fg\r")
    shell.wait_for("fg")
    time.sleep(1)
    shell.type(" ahead")
    time.sleep(0.5)
    shell.type("\x03")
    shell.wait_for(r"\(stopped\)")
    shell.wait_for("> typed ahead")
    shell.type("\x15\x04")
    shell.wait_for(r"SHELL\$")
    shell.type("exit\r")


def test_ctrl_c_that_always_leaves():
    with pytest.raises(SecondInterrupt), Interrupt(always_leaves=True) as interrupt:
        assert not interrupt.stopped()
        signal.raise_signal(signal.SIGINT)
