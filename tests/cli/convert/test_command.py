"""`gemma4 convert` as a process: what it prints where, and its exit codes."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import jobs
import pytest
import typer
from command import Runner, Terminal

from mlx_gemma4.cli.convert.command import convert
from mlx_gemma4.convert import check, hub, job, refine


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return jobs.source(tmp_path / "hub", shards=2)


@pytest.mark.slow
def test_dry_run(gemma4: Runner, demo_folder: Path) -> None:
    """The plan of the demo, without its weights being read or anything written."""
    done = gemma4("convert", "demo", "--dry-run")
    assert done.returncode == 0 and not done.stderr
    for words in (
        "embedding",
        "6 bits, groups of 128",
        "bfloat16",
        "total",
        "all weights",
    ):
        assert words in done.stdout
    assert not list(gemma4.folder.iterdir())


@pytest.mark.slow
def test_an_unknown_key_is_one_line(gemma4: Runner, source: Path) -> None:
    path = source / "config.json"
    config = json.loads(path.read_text())
    config["text_config"]["new_trick"] = 1
    path.write_text(json.dumps(config))
    done = gemma4("convert", str(source), "--dry-run")
    assert done.returncode == 0 and done.stderr.count("text_config.new_trick") == 1
    assert done.stderr.startswith("Warning: config.json states")


@pytest.mark.slow
def test_a_model_is_not_converted_onto_itself(gemma4: Runner, source: Path) -> None:
    done = gemma4("convert", str(source), f"{source}/.", "--dry-run")
    assert done.returncode == 2 and "is the model to convert" in done.stderr
    assert "remove" not in done.stderr


@pytest.mark.slow
def test_dry_run_as_json(gemma4: Runner) -> None:
    done = gemma4("convert", "demo", "--dry-run", "--json", "--recipe", "8bit")
    plan = json.loads(done.stdout)["plan"]
    assert plan["recipe"] == "8bit"
    assert plan["bytes"] == sum(line["bytes"] for line in plan["classes"])
    memory = plan["memory"]
    parts = memory["text"] + memory["vision"] + memory["audio"]
    assert parts == plan["bytes"]


@pytest.mark.slow
def test_converts(gemma4: Runner, source: Path) -> None:
    done = gemma4("convert", str(source), "out")
    assert done.returncode == 0, done.stderr
    assert "bits per weight" in done.stdout.splitlines()[-1]
    assert "100" not in done.stdout and "Converting" in done.stderr
    again = gemma4("convert", str(source), "out")
    assert again.returncode == 0
    assert "complete already" in again.stdout
    checked = gemma4("convert", "--check", "out")
    assert checked.returncode == 0, checked.stderr
    answer = gemma4("chat", "--model", "out", "--max-tokens", "2", "hello")
    assert answer.returncode == 0, answer.stderr


@pytest.mark.slow
def test_json_keeps_stderr_empty(gemma4: Runner, source: Path) -> None:
    done = gemma4("convert", str(source), "out", "--json", "--yes")
    plan, result = map(json.loads, done.stdout.splitlines())
    assert plan["plan"]["recipe"] == "4bit"
    assert result["bytes"] == plan["plan"]["bytes"] and not result["resumed"]
    assert not done.stderr


@pytest.mark.slow
def test_check_compares_with_the_source(gemma4: Runner, source: Path) -> None:
    gemma4("convert", str(source), "out", "--recipe", "8bit")
    done = gemma4("convert", "--check", "out", "--source-for-check", str(source))
    assert done.returncode == 0, done.stderr
    assert "KL divergence, mean" in done.stdout
    done = gemma4(
        "convert", "--check", "out", "--source-for-check", str(source), "--json"
    )
    fidelity = json.loads(done.stdout)["fidelity"]
    assert 0 <= fidelity["kl_median"] <= fidelity["kl_p99"]
    card = (gemma4.folder / "out" / "README.md").read_text()
    assert f"{fidelity['kl_mean']:.4f}" in card or "KL" in card


@pytest.mark.slow
def test_the_plan_need_not_be_read(gemma4: Runner, source: Path) -> None:
    assert gemma4.unread("convert", str(source), "out") == 0
    assert (gemma4.folder / "out" / "conversion.json").is_file()


@pytest.mark.slow
def test_what_another_converter_made_is_checked(gemma4: Runner, source: Path) -> None:
    gemma4("convert", str(source), "out")
    (gemma4.folder / "out" / "conversion.json").unlink()
    chat = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
    ]
    (gemma4.folder / "mine.jsonl").write_text(json.dumps({"messages": chat}))
    against = ("--source-for-check", str(source), "--data", "mine.jsonl")
    done = gemma4("convert", "--check", "out", *against)
    assert done.returncode == 0, done.stderr
    assert "have the right shapes and finite values" in done.stdout
    assert "KL divergence, mean" in done.stdout
    assert "its checksums are not known" in done.stderr


@pytest.mark.slow
def test_damage_is_found(gemma4: Runner, source: Path) -> None:
    gemma4("convert", str(source), "out")
    file = gemma4.folder / "out" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    done = gemma4("convert", "--check", "out")
    assert done.returncode == 3
    assert "model.safetensors" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nowhere/", "out"), 3, "neither a folder nor a Hub id"),
        (("org/absent", "out"), 3, "HF_HUB_OFFLINE"),
        (("demo",), 2, "a folder to make"),
        (("demo", "out", "--recipe", "5bit"), 2, "no recipe '5bit'"),
        (("demo", "out", "--override", "mlp=9:64"), 2, "no 9 bits"),
        (("demo", "out", "--recipe", "mixed"), 2, "--target-gb"),
        (("demo", "out", "--target-gb", "0.001"), 2, "the smallest takes"),
        (("demo", "out", "--refine", "awq"), 2, "there is dwq"),
        (("demo", "--check", "out"), 2, "takes no other"),
        (("demo", "out", "--source-for-check", "demo"), 2, "belongs to --check"),
        (("--check", "nowhere/"), 3, "neither a folder"),
        (("--check", "x", "--upload", "me/x"), 2, "takes no other"),
        (("--check", "x", "--recipe", "8bit"), 2, "takes no other"),
        (("--check", "x", "--data", "x"), 2, "needs --source-for-check"),
        (("demo", "--dry-run", "--upload", "me/x"), 2, "--dry-run converts nothing"),
        (("demo", "out", "--data", "x"), 2, "belongs to --target-gb"),
        (("demo", "out", "--private"), 2, "belongs to --upload"),
        (("demo", "out", "--refine", "dwq", "--data", "x"), 5, "x cannot be read"),
        (("demo", "here"), 2, "not empty"),
        (("demo", "here", "--dry-run"), 2, "not empty"),
    ],
)
def test_errors(
    arguments: tuple[str, ...], code: int, words: str, gemma4: Runner
) -> None:
    (gemma4.folder / "here").mkdir()
    (gemma4.folder / "here" / "mine").write_text("")
    done = gemma4("convert", *arguments)
    assert done.returncode == code
    line, *rest = done.stderr.splitlines()
    assert line.startswith("gemma4: ") and words in line and not rest
    assert {path.name for path in gemma4.folder.iterdir()} == {"here"}


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["truncated", "shard", "config"])
def test_damaged_sources(harm: str, gemma4: Runner, source: Path) -> None:
    file = source / "model-00002-of-00002.safetensors"
    if harm == "truncated":
        os.truncate(file, file.stat().st_size - 100)
    else:
        (file if harm == "shard" else source / "config.json").unlink()
    done = gemma4("convert", str(source), "out")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert not list(gemma4.folder.iterdir())


@pytest.mark.slow
def test_errors_as_json(gemma4: Runner) -> None:
    done = gemma4("convert", "nowhere/", "out", "--json")
    assert json.loads(done.stderr)["error"]["code"] == 3


@pytest.mark.slow
def test_bar_on_a_terminal(terminal: Callable[..., Terminal], source: Path) -> None:
    screen = terminal("convert", str(source), "out", "--yes")
    screen.wait_for(r"Converting ━")
    screen.wait_for("bits per weight")
    assert screen.finish() == 0


def test_stopped(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "run", stop)
    with pytest.raises(typer.Exit) as caught:
        convert(str(source), tmp_path / "out")
    assert caught.value.exit_code == 130
    assert "run it again to go on" in capsys.readouterr().err


@pytest.mark.slow
def test_refines_what_was_converted_before(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also after a stop between the two; but not a second time."""
    seen: list[tuple[Path, Path, list[list[int]]]] = []

    def refine_dwq(
        source: Path, folder: Path, *, tokens: list[list[int]]
    ) -> refine.Refined:
        seen.append((source, folder, tokens))
        record = json.loads((folder / "conversion.json").read_text())
        (folder / "conversion.json").write_text(json.dumps(record | {"refined": {}}))
        return refine.Refined(figures, figures, kept=True)

    figures = check.Fidelity(1, 0.5, 0.5, 0.5, 0.5, 1.0, 2.0, 2.0)
    monkeypatch.setattr(refine, "refine_dwq", refine_dwq)
    out, text = tmp_path / "out", tmp_path / "mine.txt"
    text.write_text("What is the capital of France?")
    convert(str(source), out)
    assert not seen
    for _ in range(2):
        convert(str(source), out, refine="dwq", data=text)
    ((_, folder, tokens),) = seen
    assert folder == out and len(tokens) == 1 and len(tokens[0]) > 5
    assert "refined already" in capsys.readouterr().err


def test_upload_after_conversion(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uploaded: list[tuple[Path, str, bool]] = []

    def put(folder: Path, repo: str, private: bool) -> str:
        uploaded.append((folder, repo, private))
        return "https://huggingface.co/me/mine"

    monkeypatch.setattr(hub, "upload", put)
    convert(str(source), tmp_path / "out", upload="me/mine", private=True)
    assert uploaded == [(tmp_path / "out", "me/mine", True)]
    assert "https://huggingface.co/me/mine" in capsys.readouterr().out


@pytest.mark.slow
def test_a_size_is_measured_and_then_made(gemma4: Runner) -> None:
    """What sizes lose on the user's own text comes before the work, and is not measured
    again by a run that finds it done."""
    (gemma4.folder / "mine.txt").write_text("Chocolate is brown. Snow is white.\n")
    command = "convert", "demo", "out", "--data", "mine.txt", "--json"
    dry = gemma4(*command, "--recipe", "tiny", "--dry-run")
    assert dry.returncode == 0 and not (gemma4.folder / "out").exists()
    first = gemma4(*command, "--recipe", "tiny")
    told = [json.loads(line) for line in first.stdout.splitlines()]
    offers, plan, done = told
    assert [each["recipe"] for each in offers["offers"]] == ["tiny", "4bit"]
    assert offers["text"] == "mine.txt" and offers["chosen"] == 0
    assert plan["plan"]["bytes"] == offers["offers"][0]["bytes"] == done["bytes"]
    assert json.loads(dry.stdout.splitlines()[0]) == offers
    again = gemma4(*command, "--recipe", "tiny")
    assert again.returncode == 0 and "measured before" in again.stderr
    assert json.loads(again.stdout.splitlines()[-1])["complete_before"]
