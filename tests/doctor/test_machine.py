"""This machine, and machines that are pretended."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import pytest

from mlx_gemma4.checkpoint.load import prepare_model
from mlx_gemma4.cli.doctor.report import Section, model_sections
from mlx_gemma4.doctor import fitness
from mlx_gemma4.doctor import machine as machines
from mlx_gemma4.doctor.findings import Level
from mlx_gemma4.doctor.fitness import check_machine
from mlx_gemma4.doctor.machine import Machine
from mlx_gemma4.doctor.model import report_on
from mlx_gemma4.kernels.choice import Answer, remember


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return replace(Machine.here(), hub_cache=tmp_path / "hub", state=tmp_path / "state")


def levels(machine: Machine) -> dict[str, Level]:
    """The worst of each kind."""
    order = [Level.OK, Level.UNKNOWN, Level.WARNING, Level.PROBLEM]
    found: dict[str, Level] = {}
    for each in check_machine(machine).all:
        worst = max(found.get(each.about, Level.OK), each.level, key=order.index)
        found[each.about] = worst
    return found


def on_a_mac(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    system = SimpleNamespace(platform="darwin")
    name = SimpleNamespace(mac_ver=lambda: (version, ("", "", ""), "arm64"))
    monkeypatch.setattr(fitness, "sys", system)
    monkeypatch.setattr(fitness, "platform", name)


def test_this_machine(here: Machine) -> None:
    assert here.versions["mlx-gemma4"] and here.versions["mlx"]
    assert here.memory is not None and here.memory > 10**8
    assert here.disk_free is not None and here.system
    assert Level.PROBLEM not in levels(here).values()


def test_nothing_can_be_told(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    libc = SimpleNamespace(libc_ver=lambda: ("", ""))
    monkeypatch.setattr(fitness, "platform", libc)
    blind = replace(here, memory=None, working_set=None, container=None, disk_free=None)
    found = levels(blind)
    assert [found[key] for key in ("system", "memory", "disk")] == [Level.UNKNOWN] * 3


@pytest.mark.parametrize(
    ("changes", "version", "about", "words"),
    [
        ({"metal": False}, "15.1", "metal", "no Metal"),
        ({}, "13.6.1", "system", "macOS is 13.6.1; MLX needs 14.0"),
        ({}, "15.1", "", ""),
        ({}, "26", "", ""),
    ],
)
def test_a_mac(
    changes: dict[str, object],
    version: str,
    about: str,
    words: str,
    here: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_a_mac(monkeypatch, version)
    plain = {"metal": True, "working_set": 12 * 10**9}
    mac = replace(here, **{**plain, **changes})  # type: ignore[arg-type]
    problems = [f for f in check_machine(mac).all if f.level is Level.PROBLEM]
    assert [f.about for f in problems] == ([about] if about else [])
    assert all(words in f.text for f in problems)


def test_what_a_mac_states(monkeypatch: pytest.MonkeyPatch) -> None:
    stated = {
        "machdep.cpu.brand_string": "Apple M3 Max\n",
        "iogpu.wired_limit_mb": "0\n",
    }

    def sysctl(command: list[str], **_: object) -> SimpleNamespace:
        name = command[-1]
        return SimpleNamespace(
            returncode=0 if name in stated else 1, stdout=stated.get(name, "")
        )

    monkeypatch.setattr(machines, "sys", SimpleNamespace(platform="darwin"))
    run = SimpleNamespace(run=sysctl, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(machines, "subprocess", run)
    mac = Machine.here()
    assert mac.system.startswith("macOS ")
    assert (mac.chip, mac.wired_limit) == ("Apple M3 Max", 0)
    stated.clear()
    mac = Machine.here()
    assert (mac.chip, mac.wired_limit) == (None, None)


def test_little_of_everything(here: Machine) -> None:
    small = replace(here, memory=4 * 10**9, container=None, disk_free=10**9)
    found = levels(small)
    assert found["memory"] is found["disk"] is Level.WARNING
    assert levels(replace(here, container=10**9))["memory"] is Level.WARNING


def test_folders_that_cannot_be_written(here: Machine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    inside = replace(here, hub_cache=tmp_path / "file" / "hub")
    assert levels(inside)["folders"] is Level.WARNING
    (tmp_path / "closed").mkdir(mode=0o500)
    if not os.access(tmp_path / "closed", os.W_OK):  # root may write anywhere
        closed = replace(here, state=tmp_path / "closed" / "state")
        assert levels(closed)["folders"] is Level.WARNING


def test_packages(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def needs(*texts: str) -> Level:
        monkeypatch.setattr(fitness, "requires", lambda _: list(texts))
        return levels(here)["packages"]

    assert needs("mlx>=0.1", "nothing-like-it>=1; extra == 'media'") is Level.OK
    assert needs("mlx>=99") is Level.PROBLEM
    assert needs("numpy>=99") is Level.WARNING
    assert needs("nothing-like-it>=1") is Level.PROBLEM

    def missing(_: str) -> None:
        raise fitness.PackageNotFoundError

    monkeypatch.setattr(fitness, "requires", missing)
    assert levels(here)["packages"] is Level.UNKNOWN


def test_variables_that_count(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "HF_TOKEN": "hf_secret",
        "HUGGING_FACE_HUB_TOKEN": "hf_secret",
        "HF_ENDPOINT": "https://me:secret@example.org",
        "https_proxy": "http://me:secret@example.org",
        "GEMMA4_UNHEARD_OF": "secret",
    }
    for name, value in {**secrets, "GEMMA4_KERNELS": "off", "HF_HOME": ""}.items():
        monkeypatch.setenv(name, value)
    found = Machine.here()
    assert found.hub_token
    shown = found.environment
    assert shown["GEMMA4_KERNELS"] == "off" and "HF_HOME" not in shown
    assert all(shown[name] == "set" for name in secrets)
    assert "secret" not in str(found)
    assert "MLX_ENABLE_TF32" not in shown  # which importing the package has set
    monkeypatch.setenv("MLX_ENABLE_TF32", "1")
    assert Machine.here().environment["MLX_ENABLE_TF32"] == "set"


def test_kernels_that_were_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert Machine.here().kernels == 0
    (tmp_path / "gemma4").mkdir()
    answers = {"answers": [{"place": {}, "uses": [], "out": {}}] * 2}
    (tmp_path / "gemma4" / "kernels.json").write_text(json.dumps(answers))
    assert Machine.here().kernels == 2


@pytest.mark.slow
def test_kernels_that_do_with_a_model(
    demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stated() -> str | None:
        (row,) = [r for s in sections() for r in s.rows if r[0] == "kernels"]
        return row[1]

    def sections() -> list[Section]:
        report = report_on(str(demo_folder), True, lambda text: None)
        return model_sections(report)

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert not [row for each in sections() for row in each.rows if "kernels" in row]
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr("mlx_gemma4.doctor.summary.memory_limit", lambda: 10**9)
    assert stated() == "GEMMA4_KERNELS is off"
    monkeypatch.delenv("GEMMA4_KERNELS")
    assert "not checked here yet" in str(stated())
    answer = Answer(("norms",), {"router": "slower"})
    remember(prepare_model(demo_folder).conditions, answer, pytest.fail)
    assert stated() == "on: norms; left out: router (slower)"


def test_kernels_that_do_not_exist(here: Machine) -> None:
    assert "kernels" not in levels(replace(here, environment={}))
    mistyped = replace(here, environment={"GEMMA4_KERNELS": "norms,haeds"})
    assert levels(mistyped)["kernels"] is Level.PROBLEM
