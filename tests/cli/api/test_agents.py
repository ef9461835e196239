"""Programs that write code, as people have them: Codex and opencode, offline.

A scripted engine asks for a command, is told its output, and says it.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from serving import served
from told import Told, said

from mlx_gemma4 import Chunk, ToolCall
from mlx_gemma4.cli.serve.engine import Asked

pytestmark = pytest.mark.slow

COMMANDS = {"exec_command": "cmd", "bash": "command"}  # Codex's tool, and opencode's
CODEX = """
model = "gemma4"
model_provider = "gemma4"
[model_providers.gemma4]
name = "gemma4"
base_url = "{url}"
wire_api = "responses"
"""


def run(asked: Asked) -> list[Chunk]:
    last = [*(asked.messages or ())][-1]
    if last["role"] == "tool":
        return said(Chunk(f"It said {str(last['content']).split()[-1]}.", 1))
    for tool in asked.tools or ():
        name = tool["function"]["name"]
        if key := COMMANDS.get(name):
            given = {key: "echo six-$((3+4))", "description": "Says a word."}
            thought = Chunk("", 1, thought="I run it.")
            return said(thought, Chunk("", 2, tool_calls=(ToolCall(name, given),)))
    return said(Chunk("A title", 1))


def ask(name: str, arguments: list[str], folder: Path, **variables: str) -> str:
    if (program := shutil.which(name)) is None:
        pytest.skip(f"{name} is not installed")
    home = {"HOME": str(folder), "PATH": os.environ["PATH"]}
    process = subprocess.run(
        [program, *arguments],
        cwd=folder,
        env=home | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_codex(tmp_path: Path) -> None:
    engine = Told(run)
    with served(lambda: engine) as server:
        config = tmp_path / ".codex" / "config.toml"
        config.parent.mkdir()
        config.write_text(CODEX.format(url=server.url))
        arguments = ["exec", "--skip-git-repo-check", "Run it."]
        answer = ask("codex", arguments, tmp_path, CODEX_HOME=str(config.parent))
        assert answer.strip() == "It said six-7."
        arguments = ["exec", "resume", "--last", *arguments[1:]]
        ask("codex", arguments, tmp_path, CODEX_HOME=str(config.parent))
    first, second, third, _ = ([*asked.messages] for asked in engine.asked)
    assert first[0]["role"] == "system" and first[-1]["content"] == "Run it."
    assert second[: len(first)] == first  # nothing is read again
    assert second[-2]["reasoning"] == "I run it."
    assert third[: len(second)] == second
    names = [tool["function"]["name"] for tool in engine.asked[0].tools or ()]
    assert "exec_command" in names and "web_search" not in names


def test_opencode(tmp_path: Path) -> None:
    engine = Told(run)
    with served(lambda: engine) as server:
        provider = {
            "npm": "@ai-sdk/openai-compatible",
            "options": {"baseURL": server.url, "apiKey": "none"},
            "models": {"gemma4": {"name": "Gemma 4"}},
        }
        config = tmp_path / "opencode.json"
        settings = {"provider": {"gemma4": provider}, "model": "gemma4/gemma4"}
        config.write_text(json.dumps(settings))
        answer = ask(
            "opencode",
            ["run", "Run it."],
            tmp_path,
            OPENCODE_DISABLE_MODELS_FETCH="1",
            OPENCODE_DISABLE_AUTOUPDATE="1",
        )
    assert answer.strip() == "It said six-7."
    turns = [[*asked.messages] for asked in engine.asked if asked.tools]
    assert turns[1][: len(turns[0])] == turns[0]
    assert turns[1][-2]["reasoning_content"] == "I run it."
