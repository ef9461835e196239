"""The programs compared, where they are installed, and how their processes start."""

import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlx_gemma4.bench import child
from mlx_gemma4.bench.timing import OURS
from mlx_gemma4.bench.worker import Worker
from mlx_gemma4.errors import PeerError

MLX_LM, MLX_VLM = "mlx-lm", "mlx-vlm"
# Name of the package -> its module.
MODULES = {OURS: "mlx_gemma4", MLX_LM: "mlx_lm", MLX_VLM: "mlx_vlm"}
HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "benchmarks"
THIS_PYTHON = sys.executable
VERSIONS = "from importlib.metadata import version as v; print(v({!r}), v('mlx'))"


def start(
    name: str,
    job: str,
    *arguments: object,
    python: str = THIS_PYTHON,
    environment: Mapping[str, str] | None = None,
) -> Worker:
    """A process of program `name` that runs the module `job`."""
    command = [python, HERE / "worker.py", Path(child.__file__).parent, job, *arguments]
    return Worker(name, [str(word) for word in command], environment)


def need(modules: Mapping[str, str]) -> None:
    """Ends the script, before it does anything, where a module is not installed.

    modules: by name, what `pip install` takes.
    """
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    for name in absent:
        say(f"{name} is needed and not installed: pip install {modules[name]}")
    if absent:
        sys.exit(2)


def has_module(python: str, module: str) -> bool:
    """Whether the interpreter `python` could import `module`."""
    look = f"import importlib.util as u, sys; sys.exit(not u.find_spec({module!r}))"
    try:
        return subprocess.run([python, "-c", look]).returncode == 0
    except OSError as error:
        raise PeerError(f"{python} does not run: {error.strerror}.") from None


def interpreters(named: Iterable[str]) -> dict[str, str]:
    """Name -> interpreter of every program, by words NAME=PATH; this one unless told.

    Raises PeerError for another name.
    """
    words = (each.partition("=") for each in named)
    chosen = {name: python for name, _, python in words}
    if unknown := set(chosen) - set(MODULES):
        raise PeerError(f"--python names {unknown}; known: {set(MODULES)}.")
    return {name: chosen.get(name, THIS_PYTHON) for name in MODULES}


def machine() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
    }


def versions(pythons: Mapping[str, str]) -> dict[str, str]:
    """Name -> its version and that of mlx beside it."""
    found = {}
    for name, python in pythons.items():
        asked = [python, "-c", VERSIONS.format(name)]
        out = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        found[name] = "{} (mlx {})".format(*out.split())
    return found


def say(text: str) -> None:
    """To stderr: stdout is for results."""
    print(text, file=sys.stderr, flush=True)


def failed(error: PeerError) -> int:
    """Says what went wrong, with all that the process said; the exit code."""
    for line in (
        f"{Path(sys.argv[0]).name}: {error}",
        *getattr(error, "__notes__", ()),
    ):
        say(line)
    return 1
