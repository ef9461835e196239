"""The command `llm`, as its users run it: it finds the plugin and the demo model."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from places import SHAPES

pytest.importorskip("llm", reason="needs the extra: pip install .[llm]")
pytestmark = pytest.mark.slow

Command = Callable[..., subprocess.CompletedProcess[str]]
TOOLS = '''
def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return "sunny, 21 degrees"

def get_time(city: str) -> str:
    """Get the time in a city."""
    raise ValueError("no clock")
'''
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


def test_media_tools_and_schemas(command: Command, tmp_path: Path) -> None:
    cold = ("-m", "gemma4/demo", "-o", "temperature", "0")
    done = command(*cold, "Describe this image.", "-a", str(SHAPES))
    assert "a blue star in the middle" in done.stdout, done.stderr
    ask = "What is the weather in Oslo?"
    done = command(*cold, ask, "--functions", TOOLS, "--td")
    assert done.stdout == "It is sunny and 21 degrees in Oslo.\n"
    assert "Tool call: get_weather({'city': 'Oslo'})" in done.stderr
    done = command(*cold, "What time is it in Oslo?", "--functions", TOOLS, "--td")
    assert done.returncode == 0 and "Error: no clock" in done.stderr
    done = command(*cold, "--async", ask, "--functions", TOOLS)
    assert done.stdout == "It is sunny and 21 degrees in Oslo.\n"
    pytest.importorskip("llguidance", reason="needs the extra: pip install .[json]")
    done = command(*cold, "Who?", "--schema", "name, age int", "-o", "max_tokens", "20")
    assert json.loads(done.stdout).keys() == {"name", "age"}


def test_a_mistake_is_one_line(command: Command) -> None:
    done = command("-m", "gemma4/demo", "Hi", "-o", "min_p", "2")
    said = "Error: min_p is 2.0; it must be 0 (off) or more and below 1.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_the_start_of_llm_stays_light(command: Command) -> None:
    done = command("-c", LIGHT)
    assert done.returncode == 0, done.stderr
