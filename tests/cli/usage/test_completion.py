"""Completion: what the shells are answered, and setting it up."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import Runner
from typing_in import Typed

from mlx_gemma4.cli.usage.completion import SHELLS, VARIABLE

ASK = """
source "$1"
COMP_LINE=$2 COMP_POINT=${#2}
_gemma4_completion "$3"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Typed:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return Typed(monkeypatch, capsys)


def offered(typed: Typed, line: str, shell: str = "bash") -> list[str]:
    """What a shell is answered behind a line."""
    typed.monkeypatch.setenv(VARIABLE, f"complete_{shell}")
    typed.monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
    typed.monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    with pytest.raises(SystemExit):
        typed("")
    return [line for line in typed.capsys.readouterr().out.splitlines() if line]


def test_commands_and_options(typed: Typed) -> None:
    assert offered(typed, "gemma4 tra") == ["transcribe"]
    assert offered(typed, "gemma4 tune ev") == ["eval"]
    assert offered(typed, "gemma4 config s") == ["show"]
    assert offered(typed, "gemma4 chat --temp") == ["--temperature"]
    assert offered(typed, "gemma4 tune train --schedule c") == ["cosine", "constant"]


def test_models(typed: Typed) -> None:
    assert offered(typed, "gemma4 chat -m e4b:8") == ["e4b:8bit"]
    assert offered(typed, "gemma4 bench --model de") == ["demo"]
    for command in ("pull", "show", "rm", "doctor", "convert", "default"):
        assert "e4b:qat" in offered(typed, f"gemma4 {command} e4b"), command
    assert offered(typed, "gemma4 chat -m ./") == []  # files, which bash finds itself


def test_bash_gets_what_is_behind_the_last_colon(typed: Typed) -> None:
    typed.monkeypatch.setenv("GEMMA4_WORDBREAKS", " =:")
    assert offered(typed, "gemma4 chat -m e4b:8") == ["8bit"]
    assert offered(typed, "gemma4 chat --model=e4b:8") == ["8bit"]
    assert offered(typed, "gemma4 chat --model=dem") == ["demo"]
    assert offered(typed, "gemma4 chat -m e4b:8", "fish") == ["e4b:8bit"]


def test_recipes_and_presets(typed: Typed, tmp_path: Path) -> None:
    assert offered(typed, "gemma4 convert --recipe mxfp") == ["mxfp4", "mxfp8"]
    file = tmp_path / "gemma4" / "config.toml"
    file.parent.mkdir()
    file.write_text('[preset.coder]\n[preset."for me"]\n')
    assert offered(typed, "gemma4 chat --preset ") == ["coder", "for\\ me"]
    file.write_text("no TOML")
    assert offered(typed, "gemma4 chat --preset ") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_that_is_named(typed: Typed, tmp_path: Path, shell: str) -> None:
    code, out, err = typed(f"--install-completion {shell}")
    assert (code, err) == (0, "")
    first, _ = out.splitlines()
    path = Path(first.removeprefix(f"Completion for {shell} is installed: "))
    assert path.is_relative_to(tmp_path)
    shown = typed(f"--show-completion {shell}")[1]
    assert path.read_text().strip() == shown.strip() and VARIABLE in shown


def test_a_shell_that_is_not_known(typed: Typed) -> None:
    code, out, err = typed("--install-completion zhs")
    assert (code, out) == (2, "")
    assert err == (
        "gemma4: There is completion for bash, zsh and fish, not for zhs. Did you mean "
        "zsh?\n"
    )


def test_a_home_that_cannot_be_written(typed: Typed) -> None:
    typed.monkeypatch.setenv("HOME", os.devnull)
    code, _, err = typed("--install-completion fish")
    assert code == 5 and "Cannot write /dev/null/" in err


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_asks_and_is_answered(gemma4: Runner, tmp_path: Path) -> None:
    """And installs for bash where that is the shell it is run from."""
    home = {**gemma4.environ, "HOME": str(tmp_path)}
    script = shutil.which("gemma4", path=str(Path(sys.executable).parent))
    assert script

    def bash(code: str, *words: str) -> str:
        typed = ["bash", "--norc", "-c", code, "bash", *words]
        return subprocess.check_output(typed, env=home, text=True, cwd=tmp_path)

    said = bash('"$1" --install-completion; true', script)
    assert said.startswith("Completion for bash is installed: ")
    file = str(tmp_path / ".bash_completions" / "gemma4.sh")
    assert file in (tmp_path / ".bashrc").read_text()
    assert bash(ASK, file, "gemma4 chat -m e4b:q", script) == "qat\n"
    assert bash(ASK, file, "gemma4 desc", script) == "describe\n"
