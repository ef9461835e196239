"""When larger command buffers are set, for which command, and what is remembered."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_gemma4.bench import buffers
from mlx_gemma4.bench.buffers import A_STEP, MB, MLX_MB, OPS, larger, learn, remembered
from mlx_gemma4.bench.timing import Sample, Series

SETTINGS = {OPS: "1000", MB: "800"}
MIB = 2**20
Pair = tuple[Series, Series]


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def series(prefill: float, decode: float, rounds: int = 3) -> Series:
    """Each round a little slower than the one before; seconds of the first."""
    slow = [1 + 0.01 * i for i in range(rounds)]
    samples = tuple(Sample(prefill * each, decode * each, 1) for each in slow)
    return Series("any", 20, 10, samples[0], samples)


OWN = series(2.0, 1.0)
BETTER, SAME, WORSE = series(2.0, 0.9), series(2.0, 1.0), series(2.0, 1.1)
READS_WORSE = series(2.2, 0.9)


def test_a_step_makes_more_buffers_than_mlx_waits_for() -> None:
    assert A_STEP > 10
    assert larger(A_STEP * 800 * MIB, {}) == SETTINGS
    assert larger(A_STEP * MLX_MB * MIB, {}) is None
    assert larger(A_STEP * (MLX_MB + 1) * MIB, {}) is not None


@pytest.mark.parametrize("name", [OPS, MB])
def test_what_is_set_is_left_alone(name: str) -> None:
    assert larger(A_STEP * 800 * MIB, {name: "5"}) is None
    learn("m", SETTINGS, [(OWN, BETTER)] * 2)
    found = remembered(["gemma4", "chat", "-m", "m"], {name: "5"})
    assert found.keys() == SETTINGS.keys() - {name}


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        ([(OWN, BETTER), (OWN, BETTER)], True),
        ([(OWN, BETTER), (OWN, SAME)], False),
        ([(OWN, BETTER), (OWN, WORSE)], False),
        ([(OWN, BETTER), (OWN, READS_WORSE)], False),
    ],
)
def test_only_what_is_better_at_all_contexts_is_kept(
    found: list[Pair], kept: bool
) -> None:
    said = learn("m", SETTINGS, found)
    assert said and ("are set" in said) == kept
    for command in ("chat", "describe", "transcribe"):
        assert remembered(["/bin/gemma4", command, "-m", "m"], {}) == (
            SETTINGS if kept else {}
        )


@pytest.mark.parametrize(
    "found",
    [[], [(OWN, WORSE)], [(OWN, series(2.0, 1.1, rounds=2))] * 2],
)
def test_too_little_changes_nothing(found: list[Pair]) -> None:
    learn("m", SETTINGS, [(OWN, BETTER)] * 2)
    assert learn("m", SETTINGS, found) is None
    assert remembered(["gemma4", "chat", "-m", "m"], {}) == SETTINGS


def test_it_is_for_one_model_and_can_be_forgotten() -> None:
    for name in ("m", "n"):
        learn(name, SETTINGS, [(OWN, BETTER)] * 2)
    learn("m", SETTINGS, [(OWN, SAME)] * 2)
    assert not remembered(["gemma4", "chat", "-m", "m"], {})
    assert remembered(["gemma4", "chat", "-m", "n"], {}) == SETTINGS


@pytest.mark.parametrize(
    ("arguments", "environ", "known"),
    [
        (["gemma4", "chat", "--model", "m", "Hello"], {}, True),
        (["gemma4", "chat", "--model=m"], {}, True),
        (["gemma4", "chat", "Hello"], {"GEMMA4_MODEL": "m"}, True),
        (["gemma4", "chat", "-m", "n"], {"GEMMA4_MODEL": "m"}, False),
        (["gemma4", "chat", "-m"], {}, False),
        (["gemma4", "chat"], {}, False),
        (["gemma4", "bench", "-m", "m"], {}, False),
        (["gemma4", "tune", "-m", "m"], {}, False),
        (["gemma4"], {"GEMMA4_MODEL": "m"}, False),
        (["script.py", "chat", "-m", "m"], {}, False),
        ([""], {}, False),
    ],
)
def test_whom_it_is_set_for(
    arguments: list[str], environ: dict[str, str], known: bool
) -> None:
    learn("m", SETTINGS, [(OWN, BETTER)] * 2)
    assert remembered(arguments, environ) == (SETTINGS if known else {})


def test_a_folder_is_known_by_any_of_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    learn(str(tmp_path / "model"), SETTINGS, [(OWN, BETTER)] * 2)
    monkeypatch.chdir(tmp_path)
    for name in ("model", "./model/", str(tmp_path / "model")):
        assert remembered(["gemma4", "chat", "-m", name], {}) == SETTINGS


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "[" * 100_000,
        '{"system": "another", "models": {"m": SETTINGS}}',
        '{"system": SYSTEM, "models": 1}',
        '{"system": SYSTEM, "models": {"m": {"PATH": "1"}}}',
        '{"system": SYSTEM, "models": {"m": {"OPS": "x", "MB": "2"}}}',
    ],
)
def test_a_file_that_says_nothing_of_use(text: str) -> None:
    file = buffers.memory_file()
    file.parent.mkdir(parents=True)
    system = json.dumps(os.uname().version)
    text = text.replace("SYSTEM", system).replace("SETTINGS", json.dumps(SETTINGS))
    file.write_text(text.replace("OPS", OPS).replace("MB", MB))
    assert not remembered(["gemma4", "chat", "-m", "m"], {})
    learn("m", SETTINGS, [(OWN, BETTER)] * 2)
    assert remembered(["gemma4", "chat", "-m", "m"], {}) == SETTINGS


def test_a_memory_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    said = learn("m", SETTINGS, [(OWN, BETTER)] * 2)
    assert said and "is not remembered" in said


# What the variable is when MLX is imported.
WATCH = """
import os, sys
class Watch:
    def find_spec(self, name, *_):
        if name == "mlx.core":
            print(os.environ.get("MLX_MAX_MB_PER_BUFFER"))
            os._exit(0)
sys.meta_path.insert(0, Watch())
sys.argv = ["gemma4", "chat", "-m", "m"]
import mlx_gemma4
mlx_gemma4.Gemma4
"""


@pytest.mark.parametrize("own", [None, "77"])
def test_it_is_set_before_mlx_is_imported(own: str | None) -> None:
    learn("m", SETTINGS, [(OWN, BETTER)] * 2)
    environ = {k: v for k, v in os.environ.items() if k not in (OPS, MB)}
    environ |= {MB: own} if own else {}
    found = subprocess.check_output([sys.executable, "-c", WATCH], env=environ)
    assert found.decode().strip() == (own or "800")
