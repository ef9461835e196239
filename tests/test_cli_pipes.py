"""`gemma4 chat` between other programs: piped input, a closed pipe, Ctrl-C."""

import json
import signal
import subprocess

import pytest
from command import COMMAND, ENDLESS, GREEDY, QUESTION


def test_piped_text_goes_before_the_prompt(gemma4):
    ask = ("chat", "-m", "demo", *GREEDY, "--json")
    piped = json.loads(gemma4(*ask, "of France?", stdin="What is the capital").stdout)
    whole = json.loads(gemma4(*ask, "What is the capital\n\nof France?").stdout)
    assert piped["usage"] == whole["usage"]
    assert piped["text"] == whole["text"]


@pytest.mark.parametrize("prompt", [(), ("-",)])
def test_piped_text_alone_is_the_prompt(gemma4, prompt):
    run = gemma4("chat", "-m", "demo", *GREEDY, *prompt, stdin=QUESTION + "\n")
    assert "Paris" in run.stdout


def test_an_empty_pipe_leaves_the_prompt_alone(gemma4):
    run = gemma4("chat", "-m", "demo", QUESTION, *GREEDY, stdin="")
    assert "Paris" in run.stdout


def test_a_conversation_through_a_pipe(gemma4):
    lines = f"{QUESTION}\n/regen\n/stats\n/bye\nnever read\n"
    run = gemma4("chat", "-m", "demo", "-i", *GREEDY, stdin=lines)
    assert run.returncode == 0, run.stderr
    answers = run.stdout.splitlines()
    assert len(answers) == 2 and answers[0] == answers[1] and "Paris" in answers[0]
    assert "context" in run.stderr
    assert "> " not in run.stdout + run.stderr


def test_each_turn_reads_only_what_is_new(gemma4):
    lines = "\n".join([QUESTION] * 3)
    run = gemma4("chat", "-m", "demo", "-i", *GREEDY, "--json", stdin=lines)
    usages = [json.loads(line)["usage"] for line in run.stdout.splitlines()]
    assert len(usages) == 3
    for before, after in zip(usages, usages[1:], strict=False):
        # The stop token is sampled but never read back: all else is still there.
        assert after["cached"] >= before["prompt"] + before["completion"] - 1


def test_a_reader_that_leaves_early_is_no_error(gemma4):
    with gemma4.start("chat", "-m", "demo", QUESTION, *ENDLESS) as process:
        assert process.stdout and process.stderr
        assert process.stdout.read(1)
        process.stdout.close()
        err = process.stderr.read().decode()
        assert (process.wait(60), err) == (0, "")


def test_closed_streams_do_no_harm(gemma4):
    script = '"$@" <&- >&-'
    run = subprocess.run(
        ["sh", "-c", script, "sh", *COMMAND, "chat", "-m", "demo", QUESTION],
        cwd=gemma4.folder,
        env=gemma4.environ,
        stderr=subprocess.PIPE,
    )
    assert (run.returncode, run.stderr) == (0, b"")


def test_ctrl_c_stops_an_answer(gemma4):
    process = gemma4.start("chat", "-m", "demo", QUESTION, *ENDLESS)
    assert process.stdout
    begun = process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert begun and rest.endswith(b"\n")
    assert err.decode() == "(stopped)\n"
