"""The scripts of examples/, run with the demo model as their headings say."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from places import EXAMPLES, SHAPES
from scripted import Script, chunks

pytestmark = pytest.mark.skipif(
    not EXAMPLES.is_dir(), reason="examples/ is not beside the tests"
)

SEEN = (
    "A red circle at the top left, a blue star in the middle and a green square at "
    "the bottom right.\n"
)


@pytest.fixture
def run(environ: dict[str, str], tmp_path: Path) -> Any:
    def run(script: str, *arguments: str, typed: str = "") -> Any:
        return subprocess.run(
            [sys.executable, str(EXAMPLES / script), *arguments],
            cwd=tmp_path,
            env=environ,
            input=typed,
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.slow
def test_answers_to_a_folder(run: Any, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("What is the capital of France?")
    (tmp_path / "two.txt").write_text("What is the capital of Italy?")
    (tmp_path / "two.answer.txt").write_text("I know that.\n")
    done = run("batch.py", ".")
    assert done.stdout == "one.txt: The capital of France is Paris.\n", done.stderr
    answers = [(tmp_path / f"{n}.answer.txt").read_text() for n in ("one", "two")]
    assert answers == ["The capital of France is Paris.\n", "I know that.\n"]
    assert run("batch.py", ".").stdout == ""


@pytest.mark.slow
@pytest.mark.parametrize("script", ["batch.py", "captions.py", "minutes.py"])
def test_what_is_not_there(run: Any, script: str) -> None:
    done = run(script, "nowhere")
    said = done.stderr.splitlines()[-1]
    assert done.returncode and "here is no " in said and "nowhere" in said


@pytest.mark.slow
def test_captions_of_a_folder(run: Any, tmp_path: Path) -> None:
    shutil.copy(SHAPES, tmp_path / "b.png")
    (tmp_path / "a.jpg").write_text("no picture")
    done = run("captions.py", ".")
    assert done.stdout == f"b.png: {SEEN}"
    assert done.stderr.startswith("a.jpg: ") and done.returncode == 1
    assert (tmp_path / "b.txt").read_text() == SEEN
    assert not (tmp_path / "a.txt").exists()


@pytest.mark.slow
def test_minutes_of_a_recording(run: Any, tmp_path: Path) -> None:
    done = run("minutes.py", str(SHAPES.parent / "speech.wav"), "-o", "minutes.md")
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "minutes.md").read_text()
    assert written.startswith("# Minutes\n\nI am a tiny demo model")
    transcript = "[00:00] hello open 3 red\n[00:02] window play music stop\n"
    assert written.endswith(f"## Transcript\n\n{transcript}")


@pytest.mark.slow
def test_a_small_chat(run: Any, tmp_path: Path) -> None:
    shutil.copy(SHAPES, tmp_path / "a.png")
    typed = "My name is Anna.\na.png\nDescribe this image.\nWhat is my name?\n"
    done = run("chat_loop.py", typed=typed)
    assert done.stdout.splitlines()[1] + "\n" == SEEN, done.stderr
    assert done.stdout.splitlines()[2] == "Your name is Anna."


@pytest.mark.slow
def test_an_agent(run: Any) -> None:
    """What it may not run, and what fails, it says it does not know."""
    asked = ("Turn on the kitchen light.", "Turn off the hall light.")
    done = run(
        "agent.py", "--ask", *asked, "Turn off the office light.", typed="y\ny\n"
    )
    refused = "I am a tiny demo model and do not know that."
    end = "Lights: kitchen on, bedroom off, office on"
    said = ["The kitchen light is on.", refused, refused, end]
    assert done.stdout.splitlines() == said, done.stderr
    assert "set_light(room='hall', state='off')\nRun it? [y/N] " in done.stderr
    done = run("agent.py", "Set a timer for 10 minutes.")
    assert done.stdout.startswith("The timer is set for 10 minutes.\nLights: ")
    assert done.stdout.count("A timer rings at ") == 1
    assert done.stderr == "set_timer(minutes=10)\n"


@pytest.mark.slow
def test_receipts(run: Any, tmp_path: Path) -> None:
    """The demo model sees none, and has to write one all the same."""
    pytest.importorskip("llguidance", reason="needs the extra: pip install .[json]")
    (tmp_path / "a.jpg").write_text("no picture")
    done = run("receipts.py", "a.jpg", str(SHAPES), "--tokens", "70")
    assert done.returncode == 1 and done.stderr.startswith("a.jpg is in no picture")
    read = json.loads(done.stdout)
    assert read["file"] == "shapes.png" and read["currency"] in ("EUR", "USD", "GBP")


@pytest.mark.parametrize("reason", ["closed", "length"])
def test_a_receipt_that_is_longer_than_an_answer(
    reason: str,
    script: Script,
    media_processor: Any,
    stand_in: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("mlx_gemma4.load", lambda name: (stand_in, media_processor))
    monkeypatch.setattr("sys.argv", ["receipts.py", str(SHAPES)])
    script.answer = lambda messages: chunks('{"shop": "', finish_reason=reason)
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(EXAMPLES / "receipts.py"), run_name="__main__")
    out, err = capsys.readouterr()
    assert (out, left.value.code) == ("", 1)
    assert err.startswith("shapes.png: more is on it than an answer holds")
