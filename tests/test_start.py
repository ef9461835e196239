"""What importing the package sees to: float32 that is float32, and the right Python."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT, TESTS

# A tiny model against the reference, where products are an M5's.
COMPARE = """
import tf32, golden, tiny
model = tiny.build("E2B", golden.SEED)
ours = tiny.logits(model, tiny.random_tokens(33, golden.SEED + 33))
golden.check_logits(ours, golden.arrays("logits")["E2B.33"])
"""
# What the variable is when MLX is imported, and what the command says then.
WATCH = """
import os, sys
class Watch:
    def find_spec(self, name, *_):
        if name == "mlx.core":
            print("first:", os.environ.get("MLX_ENABLE_TF32"))
sys.meta_path.insert(0, Watch())
sys.argv = ["gemma4", *sys.argv[1:]]
from mlx_gemma4.cli.main import main
main()
"""
INTEL = """
import platform, sys
sys.platform, platform.machine = "darwin", lambda: "x86_64"
"""


def python(code: str, *arguments: str, **environment: str) -> tuple[int, str]:
    """The exit code of a program that has no MLX_ variable but these, and its words."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MLX_")}
    kept |= {"PYTHONPATH": str(TESTS / "support"), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


@pytest.mark.slow
def test_the_reference_is_not_met_in_tf32() -> None:
    code, said = python(COMPARE, MLX_ENABLE_TF32="1")
    assert code == 1 and "in check_logits" in said and "AssertionError" in said


def test_the_reference_is_met_where_the_package_decides() -> None:
    assert python(COMPARE) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["tune", "convert"])
def test_commands_say_so_before_mlx_is_imported(command: str) -> None:
    assert "first: 0\n" in python(WATCH, command, "--help")[1]
    assert "first: 1\n" in python(WATCH, command, "--help", MLX_ENABLE_TF32="1")[1]


def test_these_tests_say_so_too() -> None:
    assert os.environ["MLX_ENABLE_TF32"] == "0"


def test_a_python_for_intel_macs_is_told_in_a_line() -> None:
    start = f"{INTEL}sys.argv = ['/usr/local/bin/gemma4']\nimport mlx_gemma4"
    code, said = python(start)
    assert code == 1 and said.count("\n") == 1
    assert sys.executable in said and "for arm64" in said and "Rosetta" in said
    as_module = (
        f"{INTEL}import runpy\nsys.argv, sys.orig_argv = ['-m'], ['', 'mlx_gemma4']"
    )
    assert python(f"{as_module}\nrunpy.run_module('mlx_gemma4')") == (code, said)
    for start in (INTEL, f"{INTEL}sys.argv = []\n"):
        code, as_library = python(f"{start}import mlx_gemma4")
        assert code == 1 and as_library.endswith(f"ImportError: {said}")


@pytest.mark.slow
@pytest.mark.skipif(
    not ((ROOT / "Makefile").is_file() and shutil.which("make")),
    reason="needs make, and the Makefile beside the tests",
)
def test_make_passes_them_over(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTEL)
    done = subprocess.run(
        ["make", f"VENV={tmp_path}/venv", f"{tmp_path}/venv/bin/python"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode and not (tmp_path / "venv").exists()
    assert "Not with python3: it is made for Intel Macs." in done.stderr
    assert "/opt/homebrew" in done.stderr
