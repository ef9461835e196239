"""What was read is not read again by a later run, whatever ended the one before."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from command import Runner

QUESTIONS = ("What is the capital of France?", "And of Italy?", "And of Spain?") * 3
BOOK = "The captain and his ship went out to sea again. " * 40


def answered(gemma4: Runner, *words: str, stdin: str = "") -> Any:
    result = gemma4("chat", "-m", "demo", "--json", *words, stdin=stdin)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return tmp_path / "data" / "gemma4" / "prompts"


def entry_behind(prompts: Path, known: str) -> str:
    """The name of the one entry, once it is another than `known`."""
    names: list[str] = []
    for _ in range(600):
        names = [file.name for file in prompts.glob("[0-9a-f]*.safetensors")]
        if len(names) == 1 and names[0] != known:
            return names[0]
        time.sleep(0.1)
    raise AssertionError(f"{names} in {prompts}")


@pytest.mark.slow
def test_ten_turns_read_only_what_is_new(gemma4: Runner, prompts: Path) -> None:
    """Each turn is a run of its own, killed once its answer was kept."""
    said, known = 0, ""
    for n, question in enumerate((*QUESTIONS, "Thank you.")):
        talk = ["-c"] if n else ["--log"]
        options = ("chat", "-m", "demo", "--json", "-i", *talk)
        with gemma4.start(*options, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(question.encode() + b"\n")
                process.stdin.flush()
                usage = json.loads(process.stdout.readline())["usage"]
                known = entry_behind(prompts, known)
            finally:
                process.kill()
        # All that was said; of an answer that was cut, not its last token.
        assert said - usage["cached"] in (0, 1)
        said = usage["prompt"] + usage["completion"]


@pytest.mark.slow
def test_a_second_question_reads_only_itself(gemma4: Runner, prompts: Path) -> None:
    first = answered(gemma4, "Who is it about?", stdin=BOOK)["usage"]
    second = answered(gemma4, "What is it?", stdin=BOOK)["usage"]
    assert first["cached"] == 0 and first["prompt"] > 256
    assert second["prompt"] - second["cached"] < 30
    (file,) = prompts.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_what_is_private_or_off_is_not_kept(gemma4: Runner, prompts: Path) -> None:
    for option in (["--no-log"], ["--no-history"], ["--prompt-cache", "off"]):
        answered(gemma4, "Who is it about?", *option, stdin=BOOK)
        assert not prompts.exists()


@pytest.mark.slow
def test_it_goes_with_its_conversation(gemma4: Runner, prompts: Path) -> None:
    answered(gemma4, "--log", "Hi")
    assert len(list(prompts.iterdir())) == 1
    assert gemma4("logs", "rm", "1", "--yes").returncode == 0
    assert not list(prompts.iterdir())


@pytest.mark.slow
def test_a_wrong_amount_is_told(gemma4: Runner) -> None:
    result = gemma4("chat", "-m", "demo", "--prompt-cache", "much", "Hi")
    assert result.returncode == 2
    assert "--prompt-cache is 'much'; it takes auto, off" in result.stderr
