"""`gemma4`: help, version, and one answer."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import COMMAND, ESCAPE, GREEDY, QUESTION, Runner

from mlx_gemma4 import __version__


def test_version(gemma4):
    run = gemma4("--version")
    assert (run.returncode, run.stdout) == (0, f"gemma4 {__version__}\n")


@pytest.mark.slow
def test_help_lists_commands_and_options(gemma4):
    run = gemma4("--help")
    assert run.returncode == 0 and "chat" in run.stdout
    assert gemma4().stdout == run.stdout
    help_text = gemma4("chat", "--help").stdout
    for option in ("--model", "--system", "--think", "--json", "--stats", "--seed"):
        assert option in help_text


def test_installed_script_is_the_same_command(environ):
    script = shutil.which("gemma4", path=str(Path(sys.executable).parent))
    assert script, "the package is not installed: pip install -e ."
    run = subprocess.run([script, "--version"], capture_output=True, env=environ)
    assert run.stdout.decode() == f"gemma4 {__version__}\n"


def imported(gemma4: Runner, *arguments: str) -> set[str]:
    """Top-level modules that a run of the command imports."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", *COMMAND[1:], *arguments],
        cwd=gemma4.folder,
        env=gemma4.environ,
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    lines = re.findall(r"^import time:.*\|\s*([\w.]+)$", run.stderr, re.MULTILINE)
    assert "typer" in lines
    return {name.split(".")[0] for name in lines}


def test_help_imports_nothing_heavy(gemma4):
    heavy = {"mlx_lm", "transformers", "torch", "huggingface_hub", "tokenizers"}
    heavy |= {"rich", "markdown_it", "prompt_toolkit", "jinja2", "numpy", "sqlite3"}
    assert not heavy & imported(gemma4, "--help")


@pytest.mark.slow
def test_an_answer_needs_neither_mlx_lm_nor_transformers(gemma4):
    heavy = {"mlx_lm", "transformers", "torch", "huggingface_hub", "rich", "sqlite3"}
    assert not heavy & imported(gemma4, "chat", "-m", "demo", QUESTION)


def test_answer_alone_is_on_stdout(gemma4):
    run = gemma4("chat", "--model", "demo", QUESTION, *GREEDY)
    assert run.returncode == 0, run.stderr
    assert "Paris" in run.stdout
    assert run.stdout.endswith("\n") and not run.stdout.endswith("\n\n")
    assert run.stderr == ""
    assert ESCAPE not in run.stdout


@pytest.mark.slow
def test_without_a_model_the_demo_answers_and_says_so(gemma4):
    run = gemma4("chat", QUESTION, *GREEDY)
    assert run.returncode == 0
    assert "Paris" in run.stdout
    assert "demo" in run.stderr


@pytest.mark.slow
def test_model_from_the_environment(gemma4, demo_folder):
    gemma4.environ["GEMMA4_MODEL"] = str(demo_folder)
    run = gemma4("chat", QUESTION, *GREEDY, "--json")
    assert json.loads(run.stdout)["model"] == str(demo_folder)
    assert run.stderr == ""


@pytest.mark.slow
def test_stats_go_to_stderr(gemma4):
    run = gemma4("chat", "-m", "demo", QUESTION, *GREEDY, "--stats")
    assert re.search(
        r"^\d+ tok · [\d.,]+ tok/s · ttft [\d.]+ s · prefill [\d,]+ tok/s"
        r" · peak [\d.]+ [MG]B · \d+ of \d+ drafts right(, [\d.]+ s (gained|lost))?$",
        run.stderr.strip(),
    )
    assert ESCAPE not in run.stderr


@pytest.mark.slow
def test_json_is_one_object(gemma4):
    run = gemma4("chat", "-m", "demo", QUESTION, *GREEDY, "--seed", "5", "--json")
    answer = json.loads(run.stdout)
    assert len(run.stdout.splitlines()) == 1
    assert "Paris" in answer["text"]
    assert answer["thinking"] is None
    assert answer["tool_calls"] == []
    assert answer["finish_reason"] == "stop"
    assert answer["usage"]["prompt"] > 0 and answer["usage"]["completion"] > 0
    assert answer["usage"]["cached"] == 0
    gain = answer["timings"].pop("draft_gain_s")
    assert gain is None or gain < 1
    assert set(answer["timings"]) == {"load_s", "ttft_s", "prefill_tps", "decode_tps"}
    assert all(value > 0 for value in answer["timings"].values())
    assert answer["peak_memory"] > 0
    assert (answer["model"], answer["seed"]) == ("demo", 5)


@pytest.mark.slow
def test_a_seed_repeats_an_answer(gemma4):
    hot = ("--temperature", "3", "--top-p", "1", "--max-tokens", "12")
    arguments = ("chat", "-m", "demo", QUESTION, *hot, "--seed")
    first = gemma4(*arguments, "1").stdout
    assert first == gemma4(*arguments, "1").stdout
    assert any(gemma4(*arguments, seed).stdout != first for seed in ("2", "3"))


@pytest.mark.slow
def test_max_tokens_and_stop_cut_the_answer(gemma4):
    ask = ("chat", "-m", "demo", QUESTION, *GREEDY, "--json")
    cut = json.loads(gemma4(*ask, "--max-tokens", "1").stdout)
    assert (cut["finish_reason"], cut["usage"]["completion"]) == ("length", 1)
    stopped = json.loads(gemma4(*ask, "--stop", "Rome", "--stop", "Paris").stdout)
    assert stopped["finish_reason"] == "stop"
    assert "Paris" not in stopped["text"]


@pytest.mark.slow
def test_tool_calls_are_printed_not_run(gemma4):
    tool = {
        "name": "get_weather",
        "description": "Weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
    text = json.dumps([tool])
    (gemma4.folder / "tools.json").write_text(text, encoding="utf-8-sig")  # with a mark
    ask = ("chat", "-m", "demo", "What is the weather in Rome?", *GREEDY)
    run = gemma4(*ask, "--tools", "tools.json")
    assert run.returncode == 0, run.stderr
    call = json.loads(run.stdout.splitlines()[-1])
    answer = json.loads(gemma4(*ask, "--tools", "tools.json", "--json").stdout)
    assert answer["finish_reason"] == "tool_calls"
    assert answer["tool_calls"] == [call]
    assert call["name"] == "get_weather"
