"""What is made of a process that checks kernels, however it ends.

The process is played by a script: a kernel that hangs or ends it needs a Mac.
"""

import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from mlx_gemma4.bench import auto
from mlx_gemma4.bench.worker import running
from mlx_gemma4.checkpoint.load import Prepared, prepare_model, recall_kernels
from mlx_gemma4.errors import BenchError
from mlx_gemma4.kernels import choice, launch
from mlx_gemma4.kernels.choice import Answer, memory_file, recall

# Plays a process: what is left out are its arguments behind the folder and the type.
BEGIN = """
import json, os, sys, time
left = sys.argv[3:]
def say(*words):
    print(json.dumps(words), flush=True)
"""
# One use hangs, one ends the process, one is wrong, and the last is right.
TROUBLE = """
for use in ("norms", "heads", "router", "gate"):
    if use in left:
        continue
    say("trying", use)
    if use == "norms":
        time.sleep(600)
    if use == "heads":
        sys.exit("what went before\\nGPU Timeout Error")
    if use == "router":
        say("out", use, "differs")
say("on", ["gate"])
time.sleep(600)
"""


@pytest.fixture
def prepared(demo_folder: Path) -> Prepared:
    return prepare_model(demo_folder)


def examined(prepared: Prepared, text: str) -> Answer:
    return auto.examined(prepared, (sys.executable, "-S", "-c", BEGIN + text))


@pytest.mark.slow
def test_a_use_that_hangs_or_ends_the_process_is_left_out_alone(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "SILENCE", 1.0)
    answer = examined(prepared, TROUBLE)
    assert answer.uses == ("gate",)
    assert answer.out == {
        "norms": "does not come to an end",
        "heads": "ends the process: GPU Timeout Error",
        "router": "differs",
    }


def test_modules_of_the_current_folder_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "tokenize", "mlx_gemma4"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a stranger')")
    monkeypatch.chdir(tmp_path)
    command = running(auto.CHECK, str(tmp_path), "float32")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("mlx_gemma4.errors.CheckpointError")


def test_the_process_gets_the_folder_and_the_type(prepared: Prepared) -> None:
    answer = examined(prepared, 'print("noise"); print(5); say("on", sys.argv[1:])')
    assert answer == Answer((str(prepared.folder), "float32"))


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ('sys.exit("no way")', {"all": "the check ends the process: no way"}),
        ("", {"all": "the check ends the process: no word"}),
        ("time.sleep(600)", {"all": f"the check {auto.ENDLESS}"}),
        ('say("trying", "all"); os.abort()', {"all": "ends the process: no word"}),
        pytest.param(
            'say("trying", "norms"); time.sleep(600)',
            {"all": "the check takes over 2 s"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_ends_all_of_it_turns_all_off(
    text: str, out: object, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "sleep" in text:
        monkeypatch.setattr(auto, "SECONDS", 2.0 if "say" in text else 0.2)
    assert examined(prepared, text) == Answer((), out)  # type: ignore[arg-type]


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A Mac, and what is noted on it."""
    monkeypatch.delenv("GEMMA4_KERNELS", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(launch, "_settled", [])
    monkeypatch.setattr(choice, "_unwritten", {})
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr("mlx_gemma4.checkpoint.load.memory_limit", lambda: 10**9)
    monkeypatch.setattr(auto, "examined", lambda _: Answer(("norms",), {"gate": "x"}))
    return []


def test_a_new_kind_of_model_is_checked_once(
    prepared: Prepared, mac: list[str]
) -> None:
    auto.check_if_new(prepared, mac.append)
    assert "a few seconds" in mac[0]
    assert mac[1:] == ["Kernels: on: norms; left out: gate (x)."]
    found = recall(prepared.conditions, pytest.fail)
    assert found == Answer(("norms",), {"gate": "x"})
    auto.check_if_new(prepared, pytest.fail)
    auto.check_again(prepared, mac.append)
    assert len(mac) == 4


@pytest.mark.parametrize("setting", ["off", "on", "norms"])
def test_nothing_is_checked_unasked(
    setting: str,
    prepared: Prepared,
    mac: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GEMMA4_KERNELS", setting)
    auto.check_if_new(prepared, mac.append)
    auto.check_again(prepared, mac.append)
    assert not mac and not memory_file().exists()


def test_a_memory_that_cannot_be_written_stops_no_command(
    prepared: Prepared,
    mac: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    auto.check_if_new(prepared, mac.append)
    assert "is not remembered" in mac[-1]
    recall_kernels(prepared)
    assert launch.enabled("norms")  # nothing was checked in vain
    with pytest.raises(OSError, match="is not remembered"):
        auto.check_kernels("demo")


def test_a_check_that_cannot_be_started_stops_no_command(
    prepared: Prepared, mac: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(prepared: Prepared) -> Answer:
        raise BlockingIOError("too many processes")

    monkeypatch.setattr(auto, "examined", fail)
    auto.check_if_new(prepared, mac.append)
    assert "cannot be started. too many processes" in mac[-1]
    assert not memory_file().exists()


def test_from_python(prepared: Prepared, mac: list[str]) -> None:
    assert auto.check_kernels("demo").uses == ("norms",)
    assert recall(prepared.conditions, pytest.fail) is not None


def test_without_metal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    with pytest.raises(BenchError, match="no Apple GPU"):
        auto.check_kernels("demo")


@pytest.mark.slow
@pytest.mark.skipif(mx.metal.is_available(), reason="needs a machine without Metal")
def test_the_real_process_leaves_out_what_fails(prepared: Prepared) -> None:
    """Here all do: it is the whole way, for all that the demo model uses."""
    answer = auto.examined(prepared)
    assert not answer.uses
    kinds = {use.partition(" ")[0] for use in answer.out}
    assert kinds >= {"attention", "heads", "norms", "router"}
    assert all("No Metal back-end" in why for why in answer.out.values())


@pytest.mark.metal
def test_on_a_mac_something_is_found_out(prepared: Prepared) -> None:
    answer = auto.examined(prepared)
    assert {use.partition(" ")[0] for use in (*answer.uses, *answer.out)} >= {"norms"}
    wrong = [why for why in answer.out.values() if "slower" not in why]
    assert not wrong, answer.text
