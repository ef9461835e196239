"""The training benchmark runs, and both programs learn from the same rows."""

import json
import subprocess
import sys

import pytest
from places import BENCHMARKS

BENCHMARK = BENCHMARKS / "tune.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not BENCHMARK.is_file(), reason="benchmarks/ is not beside the tests"
    ),
]


def test_both_programs_train_on_the_same_rows():
    options = ("--tiny", "--rounds", "1", "--no-compile")
    command = [sys.executable, str(BENCHMARK), *options, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "200 tokens" in found["run"] and "off for both" in found["run"]
    assert len(found["rounds"]) == 1
    for each in found["rounds"]:
        ours, theirs = each["mlx-gemma4"], each["mlx-lm"]
        assert len(ours["losses"]) == 2  # a warm-up and a measured step
        assert ours["losses"][0] == pytest.approx(theirs["losses"][0], rel=1e-5)
        assert ours["losses"][1] == pytest.approx(theirs["losses"][1], rel=1e-2)
        assert ours["mlx_bytes"] < theirs["mlx_bytes"]
