"""`gemma4 doctor` as it is used: what it prints where, its exit codes, its privacy."""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from command import ESCAPE, Runner

from mlx_gemma4 import __version__
from mlx_gemma4.cli.doctor import command
from mlx_gemma4.cli.doctor.command import run
from mlx_gemma4.cli.doctor.outcome import exit_code, verdict
from mlx_gemma4.cli.doctor.private import Private
from mlx_gemma4.cli.doctor.report import Section, laid_out
from mlx_gemma4.cli.render import Screen
from mlx_gemma4.doctor.findings import Findings
from mlx_gemma4.doctor.model import Kind, ModelReport
from mlx_gemma4.doctor.summary import Memory

TITLES = ["versions", "machine", "folders", "environment", "checks"]
OF_MODEL = ["model", "files", "model checks"]
HUB_ID = "google/gemma-4-E2B-it"


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "model")


def found(
    capsys: pytest.CaptureFixture[str], name: str | None, headers: bool = True
) -> dict[str, Any]:
    code = run(name, headers, Screen(as_json=True))
    (line,) = capsys.readouterr().out.splitlines()
    report = json.loads(line)
    assert report["exit_code"] == code
    return report


def titles(text: str) -> list[str]:
    return re.findall(r"^[a-z].*$", text, re.MULTILINE)


@pytest.mark.slow
def test_without_a_model(gemma4: Runner) -> None:
    done = gemma4("doctor")
    assert done.returncode == 0 and done.stderr == ""
    *sections, last = titles(done.stdout)
    assert sections == TITLES
    assert last == done.stdout.splitlines()[-1] and last.startswith("verdict: ok")
    assert re.search(rf"^  mlx-gemma4 +{re.escape(__version__)}$", done.stdout, re.M)
    assert ESCAPE not in done.stdout


@pytest.mark.slow
def test_the_demo_from_headers(gemma4: Runner) -> None:
    done = gemma4("doctor", "-m", "demo", "--headers")
    assert done.returncode == 0 and done.stderr == ""
    assert titles(done.stdout)[:-1] == [*TITLES, *OF_MODEL]
    assert done.stdout.splitlines()[-1].startswith("verdict: would load")


@pytest.mark.slow
def test_the_demo_passes(gemma4: Runner) -> None:
    done = gemma4("doctor", "demo")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.splitlines()[-1].startswith("verdict: works")
    for line in ("text: Logits are finite", "pictures: 70 soft", "sound: 25 soft"):
        assert re.search(rf"^  ok +{line}", done.stdout, re.MULTILINE), line


@pytest.mark.slow
def test_json_of_a_run(gemma4: Runner) -> None:
    done = gemma4("doctor", "demo", "--json")
    assert done.returncode == 0 and done.stderr == ""
    (line,) = done.stdout.splitlines()
    report = json.loads(line)["model"]
    assert report["loads"] and report["fits"] and report["works"]
    assert report["run"]["answer"]
    for reach in report["run"]["reaches"].values():
        assert reach["soft_tokens"] == reach["expected"] > 0
        assert reach["answer_difference"] > 0.01


def test_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = found(capsys, str(model))
    assert set(report) == {"machine", "model", "verdict", "exit_code"}
    assert report["verdict"].startswith("would load")
    assert report["machine"]["versions"]["mlx-gemma4"] == __version__
    about = report["model"]
    assert (about["kind"], about["loads"], about["fits"]) == ("model", True, True)
    assert about["works"] is None and about["run"] is None
    files = {each["name"]: each for each in about["files"]}
    assert len(files["config.json"]["sha256"]) == 64
    assert files["model.safetensors"]["sha256"] is None
    for check in (*about["checks"], *report["machine"]["checks"]):
        assert set(check) == {"about", "level", "text"}
        assert check["level"] in {"ok", "warning", "problem", "unknown"}


def test_json_without_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    report = found(capsys, None)
    assert report["model"] is None and report["verdict"].startswith("ok")


def test_a_broken_folder(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model / "config.json").write_text("{")
    (model / "tokenizer.json").unlink()
    assert run(str(model), True, Screen()) == 3
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "verdict: does not load, 2 problems" and not err


@pytest.mark.slow
def test_a_dead_tower(model: Path, gemma4: Runner) -> None:
    file = model / "model.safetensors"
    weights = mx.load(str(file))
    assert isinstance(weights, dict)
    weights["model.embed_vision.embedding_projection.weight"] *= 0
    mx.eval(weights)
    mx.save_safetensors(str(file), weights)
    assert gemma4("doctor", str(model), "--headers").returncode == 0
    done = gemma4("doctor", str(model))
    assert done.returncode == 3
    last = "verdict: loads but is broken, 2 problems"
    assert done.stdout.splitlines()[-1] == last


@pytest.mark.slow
def test_a_tower_that_is_not_a_number(model: Path, gemma4: Runner) -> None:
    file = model / "model.safetensors"
    weights = mx.load(str(file))
    assert isinstance(weights, dict)
    weights["model.audio_tower.output_proj.weight"] *= mx.nan
    mx.eval(weights)
    mx.save_safetensors(str(file), weights)
    done = gemma4("doctor", str(model))
    assert done.returncode == 3
    assert "NaN or infinite values in model.audio_tower.output_proj" in done.stdout
    assert done.stdout.splitlines()[-1] == "verdict: does not load, 1 problem"


@pytest.mark.slow
def test_a_hub_id_that_is_not_downloaded(gemma4: Runner) -> None:
    done = gemma4("doctor", HUB_ID)
    assert done.returncode == 3 and done.stderr == ""
    assert f"`gemma4 pull {HUB_ID}`" in " ".join(done.stdout.split())
    assert done.stdout.splitlines()[-1] == "verdict: not downloaded yet"


@pytest.mark.slow
def test_a_hub_id_in_the_cache(whole: Path, gemma4: Runner) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    hub = Path(gemma4.environ["HF_HOME"]) / "hub" / "models--google--gemma-4-E2B-it"
    shutil.copytree(whole, hub / "snapshots" / commit)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text(commit)
    done = gemma4("doctor", HUB_ID, "--headers", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    about = json.loads(done.stdout)["model"]
    assert (about["name"], about["revision"]) == (HUB_ID, commit)


@pytest.mark.slow
def test_what_is_neither_folder_nor_hub_id(gemma4: Runner) -> None:
    done = gemma4("doctor", "./nowhere", "--json")
    assert done.returncode == 3 and not done.stdout
    error = json.loads(done.stderr)["error"]
    assert error["code"] == 3 and "neither a folder nor a Hub id" in error["message"]


def test_two_models(gemma4: Runner) -> None:
    done = gemma4("doctor", "demo", "-m", "demo")
    assert done.returncode == 2 and "Name one model" in done.stderr


def test_headers_of_no_model(gemma4: Runner) -> None:
    done = gemma4("doctor", "--headers")
    assert done.returncode == 2 and not done.stdout
    assert "--headers needs a MODEL" in done.stderr


def test_an_adapter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"peft_type": "LORA", "r": 8, "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    report = found(capsys, str(tmp_path))
    assert (report["exit_code"], report["verdict"]) == (3, "a damaged adapter")
    weights = {"a.lora_A.weight": mx.zeros((8, 3))}
    mx.save_safetensors(str(tmp_path / "adapter_model.safetensors"), weights)
    report = found(capsys, str(tmp_path))
    assert (report["exit_code"], report["verdict"]) == (3, "an adapter, not a model")
    assert report["model"]["adapter"]["rank"] == 8


def test_the_model_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    examined: list[str | None] = []
    monkeypatch.setattr(command, "run", lambda name, *_: examined.append(name))
    for stated, options in (
        ("here", {"headers": True}),
        ("here", {"model": "there"}),
        ("here", {"named": "there"}),
        ("", {}),
    ):
        monkeypatch.setenv("GEMMA4_MODEL", stated)
        command.doctor(**options)
    assert examined == ["here", "there", "there", None]


@pytest.mark.slow
def test_nothing_private(whole: Path, gemma4: Runner) -> None:
    home = gemma4.folder / "home" / "jane"
    shutil.copytree(whole, home / "models" / "mine")
    changes: Mapping[str, str] = {
        **{"HOME": str(home), "USER": "jane", "HF_TOKEN": "hf_abcdef"},
        **{"HF_HOME": str(home / "hf"), "XDG_STATE_HOME": "/media/jane/state"},
        "GEMMA4_MODEL": str(home / "models" / "mine"),
    }
    gemma4.environ.update(changes)
    for options in ((), ("--json",)):
        folder = str(home / "models" / "mine")
        done = gemma4("doctor", folder, "--headers", *options)
        assert done.returncode == 0, done.stderr
        text = done.stdout
        assert "jane" not in text and "hf_abcdef" not in text
        assert os.uname().nodename not in text
        assert "~/models/mine" in text and "~/hf/hub" in text
        assert "/media/USER/state/gemma4" in text


@pytest.mark.parametrize("columns", ["80", "40", "200"])
def test_lines_are_no_longer_than_the_terminal(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert run("demo", True, Screen()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= min(int(columns), 100)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 40])
def test_on_a_terminal(columns: int, terminal: Any, gemma4: Runner) -> None:
    gemma4.environ["COLUMNS"] = str(columns)
    doctor = terminal("doctor", "demo", "--headers")
    assert doctor.finish() == 0
    *_, last = doctor.text.split("\r\n")[:-1]
    assert last.startswith("verdict: would load")


def test_layout() -> None:
    rows = [("ok", "short"), ("warning", "a text that takes more than one line")]
    assert laid_out([Section("checks", rows), Section("none", [])], 30) == [
        "checks",
        "  ok       short",
        "  warning",
        "    a text that takes more",
        "    than one line",
        "",
    ]
    assert laid_out([Section("checks", rows)], 60) == [
        "checks",
        "  ok       short",
        "  warning  a text that takes more than one line",
        "",
    ]


def test_private_paths() -> None:
    private = Private(Path("/home/al"), "al")
    assert private.text("/home/al/x and /home/al") == "~/x and ~"
    assert private.text("/home/alice /home/al.old") == "/home/alice /home/al.old"
    assert private.text("/media/al/disk/al") == "/media/USER/disk/USER"
    assert private.text("al is a word") == "al is a word"
    assert private.value({"a": ["/home/al", 1, None]}) == {"a": ["~", 1, None]}
    (row,) = private.rows([("a\nb\x1b[2J", "/home/al\tc")])
    assert row == ("a b[2J", "~ c")
    assert Private(Path("/"), "root").text("/root/x/") == "/root/x/"


def test_verdicts_and_exit_codes() -> None:
    fine, bad = Findings(), Findings()
    bad.problem("metal", "x")
    assert (verdict(fine, None), exit_code(fine, None, False)) == ("ok", 0)
    assert verdict(bad, None) == "not ok, 1 problem"
    assert exit_code(bad, None, False) == 1
    for kind in (Kind.ADAPTER, Kind.ABSENT):
        report = ModelReport("m", kind, None)
        assert exit_code(fine, report, True) == 3
    large = ModelReport("m", Kind.MODEL, Path("m"), loads=True)
    large.memory = Memory("float32", weights=2, table=0, full_context=0, limit=1)
    assert verdict(fine, large) == "whole, but too large here"
    assert [exit_code(fine, large, headers) for headers in (True, False)] == [0, 4]
