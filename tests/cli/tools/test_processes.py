"""Tools as users have them run: on a terminal, from a pipe, and killed."""

import json
import signal
from pathlib import Path

import pytest
from command import GREEDY, Runner

pytestmark = pytest.mark.slow
FILE = '''
import os, subprocess, sys, time

def get_weather(city: str) -> str:
    """Get the weather in a city.

    Args:
        city: Name of the city.
    """
    with open("runs", "a") as file:
        file.write(city + chr(10))
    subprocess.run(["echo", "from a program"])
    if os.environ.get("HANG"):
        print("hangs", file=sys.stderr, flush=True)
        time.sleep(600)
    return "sunny, 21 degrees"
'''
ASKED = "What is the weather in Rome?"
ANSWER = "It is sunny and 21 degrees in Rome.\n"


@pytest.fixture
def runner(gemma4: Runner) -> Runner:
    (gemma4.folder / "weather.py").write_text(FILE)
    return gemma4


def chat(*options: str) -> tuple[str, ...]:
    return "chat", "-m", "demo", *GREEDY, "--tool", "weather.py", *options


def runs(folder: Path) -> list[str]:
    path = folder / "runs"
    return path.read_text().splitlines() if path.exists() else []


def test_a_user_is_asked(runner, terminal):
    window = terminal(*chat("--no-log"))
    window.wait_for("for help")
    window.type(f"{ASKED}\ry\r")  # typed ahead: no answer to the question
    window.wait_for(r"\[n\]o: $")
    assert 'city: "Rome"' in window.text and not runs(runner.folder)
    window.type("y\r")
    window.wait_for(ANSWER.strip())
    assert "from a program" in window.text
    window.wait_for("> y")
    assert runs(runner.folder) == ["Rome"]


def test_nobody_can_be_asked_in_a_pipe(runner):
    run = runner(*chat(ASKED))
    assert run.returncode == 2 and "Add --yes" in run.stderr
    assert run.stdout  # the model was told, and answered
    assert not runs(runner.folder)
    run = runner(*chat("--yes", ASKED))
    assert (run.returncode, run.stdout) == (0, ANSWER)
    run = runner(*chat("--yes", "--json", ASKED))
    answer = json.loads(run.stdout)
    assert answer["text"] == ANSWER.strip()
    assert answer["rounds"][0]["tool_calls"][0]["result"] == "sunny, 21 degrees"


def hanging(runner):
    """A chat whose tool runs, and does not come to an end."""
    runner.environ["HANG"] = "1"
    process = runner.start(*chat("--yes", "--log", ASKED))
    assert process.stderr is not None
    for line in process.stderr:
        if line == b"hangs\n":
            break
    return process


def test_a_tool_that_was_killed_is_not_run_again(runner):
    process = hanging(runner)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    del runner.environ["HANG"]
    run = runner(*chat("--yes", "-c", "--json", "Hi"))
    assert run.returncode == 0, run.stderr
    assert runs(runner.folder) == ["Rome"]
    kept = json.loads(runner("logs", "export", "1", "--format", "json").stdout)
    said = [message["content"] for message in kept["messages"]]
    assert said[:2] == [ASKED, ""]
    assert said[2].startswith("No result is known") and said[3] == "Hi"


def test_ctrl_c_ends_one_answer_and_leaves_no_call_open(runner):
    process = hanging(runner)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == b"" and b"(stopped)" in err
    kept = json.loads(runner("logs", "export", "1", "--format", "json").stdout)
    assert kept["messages"][2]["content"].startswith("It was stopped while it ran")
