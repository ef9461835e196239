"""What README shows: its Python example, and what its commands print."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import Runner
from places import CAPTAIN, ROOT, SHAPES

README = ROOT / "README.md"
PARTS = ("mlx_gemma4", "assets", "cli", "convert")
WHERE = """
import mlx_gemma4.assets, mlx_gemma4.cli, mlx_gemma4.convert
print()
for package in mlx_gemma4, mlx_gemma4.assets, mlx_gemma4.cli, mlx_gemma4.convert:
    print(package.__file__)
"""

in_a_clone = pytest.mark.skipif(
    not all((ROOT / part).is_dir() for part in PARTS),
    reason="the code is not beside the tests",
)


def shown() -> list[tuple[str, str]]:
    """The commands of `gemma4`, and what README prints below each."""
    text = README.read_text(encoding="utf-8") if README.is_file() else ""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = entry.partition("\n")
            if command.startswith("gemma4 "):
                found.append((command.removeprefix("gemma4 "), printed))
    return found


def of_captain() -> list[tuple[str, str]]:
    return [(command, printed) for command, printed in shown() if "captain" in command]


def run(gemma4: Runner, command: str) -> str:
    """What is printed by a command typed in a clone."""
    for folder in (SHAPES.parent, CAPTAIN.parent):
        beside = gemma4.folder / folder.name
        if not beside.exists():
            beside.symlink_to(folder)
    process = gemma4.start(*shlex.split(command, comments=True))
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "printed"),
    [each for each in shown() if each[1] and each not in of_captain()],
)
def test_a_command_prints_what_is_shown(
    command: str, printed: str, gemma4: Runner
) -> None:
    assert run(gemma4, command) == printed


@pytest.mark.slow
def test_the_worked_example_of_tuning(gemma4: Runner) -> None:
    """Trains, compares before and after, and answers as is shown."""
    if not (commands := of_captain()):
        pytest.skip("README.md is not beside the tests")
    printed = [run(gemma4, command) for command, _ in commands]
    answers = [text for _, text in commands]
    assert any(answers)
    for ours, expected in zip(printed, answers, strict=True):
        assert ours == expected or not expected


@in_a_clone
def test_the_python_example_runs_in_a_clone(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    """With nothing installed, or something else: all that runs is the clone's."""
    for part in PARTS:
        shutil.copytree(ROOT / part, tmp_path / part)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    text = README.read_text(encoding="utf-8")
    code, *_ = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", code + WHERE],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answer, *places = done.stdout.splitlines()
    assert answer == "The capital of France is Paris."
    assert places == [str(tmp_path / part / "__init__.py") for part in PARTS]


@in_a_clone
def test_beside_a_copy_lies_another_project(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    """Whose folders are none of ours, whatever they are called."""
    shutil.copytree(ROOT / "mlx_gemma4", tmp_path / "mlx_gemma4")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\n')
    code = "import mlx_gemma4; print(*mlx_gemma4.__path__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{tmp_path / 'mlx_gemma4'}\n"
