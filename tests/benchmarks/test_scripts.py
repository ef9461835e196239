"""The benchmark runs from a clone, and its figures follow from what it measured.

Nothing here depends on how fast anything is.
"""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from places import BENCHMARKS

OURS = "mlx-gemma4"
PROMPT, DECODE, RUNS = 20, 11, 2

pytestmark = pytest.mark.skipif(
    not BENCHMARKS.is_dir(), reason="benchmarks/ is not beside the tests"
)


def compare(
    *arguments: str, script: str = "compare.py"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    """What `--json` prints about a very small model."""
    sizes = (f"--prompt={PROMPT}", f"--decode={DECODE}", f"--runs={RUNS}")
    done = compare("--tiny", "--json", *sizes, f"--folder={folder}")
    assert done.returncode == 0, done.stderr
    assert f"round {RUNS} of {RUNS}" in done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def comparing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("compare")


@pytest.mark.slow
def test_every_program_is_run_or_said_to_be_absent(result: dict[str, Any]) -> None:
    names = {*result["versions"], *result["left_out"]}
    assert names == {OURS, "mlx-lm", "mlx-vlm"}
    assert {OURS, "mlx-lm"} <= set(result["versions"])
    (case,) = result["cases"]
    for each in case["rounds"]:
        assert set(each["samples"]) == set(result["versions"])


@pytest.mark.slow
def test_all_programs_give_the_same_tokens(result: dict[str, Any]) -> None:
    (case,) = result["cases"]
    assert len(case["rounds"]) == RUNS
    for each in case["rounds"]:
        tokens = [sample["tokens"] for sample in each["samples"].values()]
        assert len(tokens[0]) == DECODE + 1
        assert len(set(tokens[0])) > 2  # not a model that repeats itself
        assert all(other == tokens[0] for other in tokens)
        for agreement in each["agreement"].values():
            assert agreement == {"same": DECODE + 1, "gap": None}


@pytest.mark.slow
def test_figures_follow_from_the_samples(result: dict[str, Any]) -> None:
    (case,) = result["cases"]
    rows = {row["label"]: row for row in case["rows"]}
    ours, theirs = (
        [each["samples"][name] for each in case["rounds"]] for name in (OURS, "mlx-lm")
    )
    seconds = [sample["decode"]["wall"] for sample in ours]
    rates = [DECODE / each for each in seconds]
    decode = rows["decode tok/s"]
    assert decode["values"][OURS]["median"] == pytest.approx(sum(rates) / RUNS)
    assert decode["values"][OURS]["least"] == pytest.approx(min(rates))
    ratios = [
        b["decode"]["wall"] / a["decode"]["wall"]
        for a, b in zip(ours, theirs, strict=True)
    ]
    assert decode["ratios"]["mlx-lm"]["most"] == pytest.approx(max(ratios))
    prefill = rows["prefill tok/s"]["values"][OURS]["most"]
    assert prefill == pytest.approx(PROMPT / min(s["prefill"]["wall"] for s in ours))
    memory = rows["peak RSS MB"]["ratios"]["mlx-lm"]["median"]
    ratios = [
        b["rss_bytes"] / a["rss_bytes"] for a, b in zip(ours, theirs, strict=True)
    ]
    assert memory == pytest.approx(sum(ratios) / RUNS)


@pytest.mark.slow
def test_samples_are_plausible(result: dict[str, Any]) -> None:
    (case,) = result["cases"]
    weights = 4 * case["parameters"]
    for each in case["rounds"]:
        for sample in each["samples"].values():
            for phase in ("start_up", "first", "prefill", "decode"):
                assert min(sample[phase].values()) > 0
            assert weights < sample["mlx_bytes"] < 100 * weights
            assert sample["rss_bytes"] > sample["mlx_bytes"]


@pytest.mark.slow
def test_the_table_of_ours_alone(folder: Path) -> None:
    sizes = ("--prompt=5", "--decode=2", "--runs=1", "--window=4")
    done = compare("--tiny", *sizes, f"--folder={folder}", "--against")
    assert done.returncode == 0, done.stderr
    assert "window 4; prompt 5, then 2 tokens; 1 rounds" in done.stdout
    assert "prompt tokens read at once: mlx-gemma4 " in done.stdout
    labels = ("prefill tok/s", "decode tok/CPU s", "start-up s", "peak MLX MB")
    assert all(f"\n{label}  " in done.stdout for label in labels)


def test_what_is_asked_for_but_absent_is_an_error(tmp_path: Path) -> None:
    nowhere = f"mlx-lm={tmp_path / 'python'}"
    done = compare("--tiny", "--python", nowhere)
    assert done.returncode == 1
    assert "does not run" in done.stderr and not done.stdout


def test_a_difference_is_reported_with_its_gap(comparing: ModuleType) -> None:
    race = importlib.import_module("race")
    spent = race.Spent(2.0, 1.0)
    sample = race.Sample(spent, spent, spent, spent, [1, 2, 3], 10, 20, 512)
    rounds = [
        race.Round({OURS: sample, "mlx-lm": sample}, {"mlx-lm": agreement})
        for agreement in (race.Agreement(3), race.Agreement(1, 1e-5))
    ]
    (sentence,) = comparing.agreement(rounds)
    assert sentence == (
        "greedy tokens of mlx-lm differ from ours at number 2 of 3, "
        "where two logits of ours are 1e-05 apart"
    )
    (row,) = (r for r in comparing.rows(rounds, 8) if r.label == "prefill tok/CPU s")
    assert row.values[OURS].text() == "8 [8-8]"
    assert row.ratios["mlx-lm"].median == 1
    header, line = comparing.table([row]).splitlines()
    assert header.split() == [OURS, "mlx-lm", "ratio"]
    assert line.endswith("8 [8-8]     8 [8-8]  1.00 [1.00-1.00]")


def test_a_package_that_is_missing_is_named_at_once(
    comparing: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = importlib.import_module("programs")
    programs.need({"json": "json"})
    with pytest.raises(SystemExit) as ended:
        programs.need({"json": "json", "no_such_module": "no-such-package"})
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "no_such_module is needed and not installed: pip install no-such-package\n"
    )


@pytest.mark.slow
def test_towers(folder: Path) -> None:
    """Both towers of very small shape, every program that is installed."""
    work = ["picture, 63 soft tokens", "recording, 5 s"]
    done = compare(
        *("--tiny", "--layers=1", "--runs=2", "--json", f"--folder={folder}"),
        *("--work", *work),
        script="compare_towers.py",
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert list(result["seconds"]) == work and OURS in result["about"]
    for programs in result["seconds"].values():
        for samples in programs.values():
            assert len(samples) == 2 and all(s["cpu"] > 0 for s in samples)
    assert all(difference < 1e-4 for difference in result["apart"].values())
    assert len(result["apart"]) == (2 if "mlx-vlm" in result["about"] else 0)


def test_bands_leave_most_scores_out() -> None:
    """At the published windows: counted in the calls, with nothing evaluated. Behind
    nothing all blocks get as many keys as the last, hidden ones among them."""
    done = compare("--count", "--json", script="banded.py")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {each["window"] for each in found} == {512, 1024}
    assert {each["earlier"] for each in found} == {0, 4096}
    for each in found:
        chunk, scores = each["chunk"], each["scores"]
        assert scores["masked"] == chunk * (
            min(each["earlier"], each["window"] - 1) + chunk
        )
        most = 0.5 if each["earlier"] else 0.7
        assert 0 < scores["banded"] <= most * scores["masked"]
    pictures = [each["scores"]["banded"] for each in found if each["pictures"]]
    assert len(pictures) == 2


@pytest.mark.slow
def test_bands_equal_the_masked_call() -> None:
    done = compare("--chunk=300", "--runs=1", script="banded.py")
    assert done.returncode == 0, done.stderr
    apart = re.findall(r"results at most (\S+) apart", done.stdout)
    assert len(apart) == 6 and all(float(each) < 1e-4 for each in apart)
    assert done.stdout.count("  CPU s ") == 6


@pytest.mark.slow
def test_the_tokenizer_is_timed(demo_folder: Path) -> None:
    done = compare(str(demo_folder), "1", script="tokenizer.py")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["load", "load,", "compare", "encode"]
    assert "1,920 rows" in lines[2]


@pytest.mark.slow
def test_drafts_change_no_answer() -> None:
    done = compare("--case=quoting", "--decode=24", "--runs=1", script="drafts.py")
    assert done.returncode == 0, done.stderr
    title, *rows = done.stdout.splitlines()
    assert title.startswith("quoting, float32: ")
    named = [row.split("  ")[0] for row in rows if "CPU ms a token" in row]
    assert {"off", "auto", "lookup", "auto, new"} <= set(named)
    assert "do not say the same" not in done.stdout


@pytest.mark.slow
def test_several_answers_beside_the_same_one_by_one() -> None:
    done = compare("--rows=2", "--decode=3", "--runs=1", script="batch.py")
    assert done.returncode == 0, done.stderr
    first, *rows = done.stdout.splitlines()
    assert first == "demo, 32 bits: 8 answers of 3 tokens"
    assert [row.split(" rows: ")[0].strip() for row in rows] == ["1", "2"]
