"""The file of `gemma4 bench --share`: figures and a machine, and nobody's paths."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from command import Runner

from mlx_gemma4.bench.timing import OURS, Sample, Series
from mlx_gemma4.bench.traffic import Bandwidth
from mlx_gemma4.cli.bench import share
from mlx_gemma4.cli.bench.command import bench
from mlx_gemma4.cli.bench.report import Facts
from mlx_gemma4.doctor.machine import Machine

SAMPLES = tuple(Sample(seconds, 2 * seconds, 10**9) for seconds in (1.0, 2.0, 4.0))
KINDS = ("kernels off", "kernels on", "mlx-lm")
FOUND = {512: [Series(name, 512, 128, SAMPLES[0], SAMPLES) for name in KINDS]}
MAC = replace(
    Machine.here(), chip="Apple M3 Max", system="macOS 26.1 (25B78)", memory=2**36
)


def facts(model: str) -> Facts:
    bandwidth, versions = Bandwidth(4e11, 3e11), {OURS: "1", "mlx": "2", "mlx-lm": "3"}
    rest = ("bfloat16", 99, [512], 128, 3, 10**9, {512: 1.1e9}, bandwidth, versions)
    return Facts(model, "Apple M3 Max", *rest)


def test_medians_ranges_and_the_machine_are_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = share.write(facts("google/gemma-4-E2B-it"), FOUND, MAC)
    assert file.name.startswith("gemma4-bench-apple-m3-max-google-gemma-4-e2b-it-")
    assert [*Path().iterdir()] == [file] and file.stat().st_size < 5000
    found = json.loads(file.read_text())
    assert found["gemma4_bench"] == 1 and found["model"] == "google/gemma-4-E2B-it"
    assert set(found["versions"]) == {OURS, "mlx", "mlx-lm"}
    machine = found["machine"]
    assert (machine["chip"], machine["memory"]) == ("Apple M3 Max", 2**36)
    assert machine["system"] == "macOS 26.1 (25B78)" and machine["python"]
    results = found["contexts"][0]["results"]
    assert [each["name"] for each in results] == [*KINDS]
    for each in results:
        assert each["decode_tps"] == {"median": 32.0, "least": 16.0, "most": 64.0}
        assert each["prefill_tps"]["median"] == 256.0 and each["peak_bytes"] == 10**9
        assert "runs" not in each and "warm_up" not in each


@pytest.mark.parametrize("named", ["{}", "./own", "own/.", "own/"])
def test_of_a_folder_only_its_own_name_is_told(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    content: Any = share.content(facts(named.format(tmp_path / "own")), FOUND, MAC)
    assert content["model"] == "own"
    assert str(tmp_path) not in json.dumps(content)
    assert os.path.expanduser("~/") not in json.dumps(content)


@pytest.mark.slow
def test_the_command_says_where_it_is(gemma4: Runner) -> None:
    small = ("--context", "5", "--decode", "3", "--runs", "1", "--against", "none")
    done = gemma4("bench", "-m", "demo", "--share", *small)
    assert done.returncode == 0, done.stderr
    (file,) = gemma4.folder.glob("gemma4-bench-*-demo-*.json")
    assert f"./{file.name}" in done.stderr and "context 5: " in done.stdout
    assert json.loads(file.read_text())["contexts"][0]["context"] == 5


def test_a_folder_that_cannot_be_written_is_told_before_anything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (".", os.W_OK))
    with pytest.raises(typer.Exit) as ended:
        bench("./nowhere", share=True)
    assert ended.value.exit_code == 2
    assert "--share writes into the current folder" in capsys.readouterr().err
