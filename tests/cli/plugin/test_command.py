"""The command `llm`, as its users run it: it finds the plugin and the demo model."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("llm", reason="needs the extra: pip install .[llm]")
pytestmark = pytest.mark.slow

Command = Callable[..., subprocess.CompletedProcess[str]]
LIGHT = """
import sys, llm
names = [model.model_id for model in llm.get_models()]
assert {"gemma4", "gemma4/demo"} <= set(names), names
heavy = {"mlx.core", "tokenizers", "typer", "rich", "huggingface_hub.hf_api"}
sys.exit(", ".join(heavy & set(sys.modules)) or 0)
"""


@pytest.fixture
def command(tmp_path: Path, environ: dict[str, str]) -> Command:
    """From an empty folder, with logs of its own."""
    environ = {**environ, "LLM_USER_PATH": str(tmp_path / "llm")}

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *(words if LIGHT in words else ("-m", "llm", *words))],
            cwd=tmp_path,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    return command


def test_a_conversation_that_is_kept(command: Command) -> None:
    done = command("-m", "gemma4/demo", "My name is Anna.", "-o", "temperature", "0")
    assert (done.returncode, done.stderr) == (0, "")
    done = command("-c", "What is my name?", "-o", "temperature", "0", "--usage")
    assert (done.returncode, done.stdout) == (0, "Your name is Anna.\n")
    assert "Token usage: " in done.stderr
    logged = json.loads(command("logs", "--json").stdout)
    assert [each["resolved_model"] for each in logged] == ["demo", "demo"]


def test_a_mistake_is_one_line(command: Command) -> None:
    done = command("-m", "gemma4/demo", "Hi", "-o", "min_p", "2")
    said = "Error: min_p is 2.0; it must be 0 (off) or more and below 1.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_the_start_of_llm_stays_light(command: Command) -> None:
    done = command("-c", LIGHT)
    assert done.returncode == 0, done.stderr
