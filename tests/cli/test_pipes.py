"""`gemma4 chat` between other programs: piped input, a closed pipe, Ctrl-C."""

import io
import json
import signal
import subprocess
import sys

import pytest
from command import COMMAND, ENDLESS, GREEDY, QUESTION

from mlx_gemma4.cli.main import prepare_streams
from mlx_gemma4.cli.render import Screen


@pytest.mark.slow
def test_piped_text_goes_before_the_prompt(gemma4):
    ask = ("chat", "-m", "demo", *GREEDY, "--json")
    piped = json.loads(gemma4(*ask, "of France?", stdin="What is the capital").stdout)
    whole = json.loads(gemma4(*ask, "What is the capital\n\nof France?").stdout)
    assert piped["usage"] == whole["usage"]
    assert piped["text"] == whole["text"]


@pytest.mark.slow
def test_line_ends_of_windows_are_line_ends(gemma4):
    ask = ("chat", "-m", "demo", *GREEDY, "--json")
    texts = ("one\ntwo", "one\r\ntwo")
    answers = [json.loads(gemma4(*ask, stdin=text).stdout) for text in texts]
    assert answers[0]["usage"] == answers[1]["usage"]
    assert answers[0]["text"] == answers[1]["text"]


@pytest.mark.slow
@pytest.mark.parametrize("prompt", [(), ("-",)])
def test_piped_text_alone_is_the_prompt(gemma4, prompt):
    run = gemma4("chat", "-m", "demo", *GREEDY, *prompt, stdin=QUESTION + "\n")
    assert "Paris" in run.stdout


@pytest.mark.slow
def test_an_empty_pipe_leaves_the_prompt_alone(gemma4):
    run = gemma4("chat", "-m", "demo", QUESTION, *GREEDY, stdin="")
    assert "Paris" in run.stdout


@pytest.mark.slow
def test_a_conversation_through_a_pipe(gemma4):
    lines = f"{QUESTION}\n/regen\n/stats\n/bye\nnever read\n"
    run = gemma4("chat", "-m", "demo", "-i", *GREEDY, stdin=lines)
    assert run.returncode == 0, run.stderr
    answers = run.stdout.splitlines()
    assert len(answers) == 2 and answers[0] == answers[1] and "Paris" in answers[0]
    assert "context" in run.stderr
    assert "> " not in run.stdout + run.stderr


@pytest.mark.slow
def test_each_turn_reads_only_what_is_new(gemma4):
    lines = "\n".join([QUESTION] * 3)
    run = gemma4("chat", "-m", "demo", "-i", *GREEDY, "--json", stdin=lines)
    usages = [json.loads(line)["usage"] for line in run.stdout.splitlines()]
    assert len(usages) == 3
    for before, after in zip(usages, usages[1:], strict=False):
        # The stop token is sampled but never read back: all else is still there.
        assert after["cached"] >= before["prompt"] + before["completion"] - 1


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error(gemma4):
    with gemma4.start("chat", "-m", "demo", QUESTION, *ENDLESS) as process:
        assert process.stdout and process.stderr
        assert process.stdout.read(1)
        process.stdout.close()
        err = process.stderr.read().decode()
        assert (process.wait(60), err) == (0, "")


@pytest.mark.slow
def test_closed_streams_do_no_harm(gemma4):
    script = '"$@" <&- >&-'
    run = subprocess.run(
        ["sh", "-c", script, "sh", *COMMAND, "chat", "-m", "demo", QUESTION],
        cwd=gemma4.folder,
        env=gemma4.environ,
        stderr=subprocess.PIPE,
    )
    assert (run.returncode, run.stderr) == (0, b"")


@pytest.mark.slow
def test_an_ascii_pipe_gets_the_whole_answer(gemma4, demo_folder):
    (gemma4.folder / "modèle").symlink_to(demo_folder)
    gemma4.environ["PYTHONIOENCODING"] = "ascii"
    run = gemma4("chat", "-m", "modèle", QUESTION, *GREEDY, "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["model"] == "modèle"


def test_what_a_stream_cannot_take_is_replaced(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    prepare_streams()
    screen = Screen()
    screen.answer("é\ud83d\n")
    screen.json({"text": "é\ud83d"})
    shown, answer = out.buffer.getvalue().decode("ascii").splitlines()  # type: ignore
    assert shown == "??"
    assert json.loads(answer) == {"text": "é\ud83d"}


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_only_a_terminal_is_spared_control_characters(monkeypatch, capsys, name):
    monkeypatch.setattr(getattr(sys, name), "isatty", lambda: True)
    screen = Screen(show_thinking=True)
    screen.colour = False
    screen.thought("\x1b[2Jhm")
    screen.answer("\x1b[2Jso\n")
    shown = capsys.readouterr()._asdict()
    assert "\x1b" not in shown.pop(name[3:])
    assert all("\x1b[2J" in text for text in shown.values())


@pytest.mark.slow
def test_ctrl_c_stops_an_answer(gemma4):
    process = gemma4.start("chat", "-m", "demo", QUESTION, *ENDLESS)
    assert process.stdout
    begun = process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert begun and rest.endswith(b"\n")
    assert err.decode() == "(stopped)\n"
