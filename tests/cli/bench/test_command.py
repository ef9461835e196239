"""`gemma4 bench`: what it prints where, and what it refuses. No timing is judged."""

import json
import signal
from contextlib import nullcontext
from pathlib import Path

import pytest
from command import Runner

from mlx_gemma4.bench.peer import Peer
from mlx_gemma4.bench.timing import Sample
from mlx_gemma4.cli.bench import command as command
from mlx_gemma4.cli.bench.command import Wishes, run
from mlx_gemma4.cli.bench.report import as_json, lines
from mlx_gemma4.cli.render import Screen
from mlx_gemma4.errors import PeerError

SMALL = ("--context", "5,9", "--decode", "3", "--runs", "3")
ALONE = ("--against", "none")


@pytest.mark.slow
def test_json(gemma4: Runner) -> None:
    done = gemma4("bench", "-m", "demo", "--json", *SMALL, *ALONE)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert min(found["bandwidth"].values()) > 0
    assert [each["context"] for each in found["contexts"]] == [5, 9]
    for each in found["contexts"]:
        assert each["bytes_per_token"] > found["weight_bytes_per_token"]
        first, *_ = each["results"]
        assert len(first["runs"]) == 3 and "verdict" not in first
        rate = first["decode_tps"]
        assert 0 < rate["least"] <= rate["median"] <= rate["most"]
    notes = [json.loads(line)["note"] for line in done.stderr.splitlines()]
    assert notes[0].startswith("Context 5: a warm-up and 3 rounds of ")


@pytest.mark.slow
def test_contexts_in_half_the_memory(gemma4: Runner) -> None:
    done = gemma4("bench", "-m", "demo", "--kv-bits", "8", *SMALL, *ALONE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("demo in float32 with an 8-bit context on ")
    assert "--kv-bits changes nothing up to 1,024 tokens" in done.stderr


@pytest.mark.slow
def test_mlx_lm_takes_part() -> None:
    wishes = Wishes([5], decode=3, runs=1, against="mlx-lm")
    facts, found = run("demo", wishes, Screen(as_json=True))
    base, *_, theirs = found[5]
    assert theirs.name == "mlx-lm" and len(theirs.samples) == 1
    assert set(facts.versions) == {"mlx-gemma4", "mlx", "mlx-lm"}
    row = lines(facts, found)[-1]
    assert row.startswith("mlx-lm ") and row.endswith(" too few rounds")
    result = as_json(facts, found)["contexts"][0]["results"][-1]
    assert result["against"] == base.name and result["verdict"] == "unclear"


@pytest.mark.slow
def test_mlx_lm_comes_afterwards_where_two_copies_do_not_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    peer = nullcontext(FakePeer())
    monkeypatch.setattr("mlx_gemma4.bench.peer.Peer", lambda *_: peer)
    monkeypatch.setattr(command, "peer_fits", lambda *_: False)
    wishes = Wishes([5], decode=2, runs=1, against="mlx-lm")
    facts, found = run("demo", wishes, Screen())
    assert [each.name for each in found[5]][-1] == "mlx-lm"
    assert facts.apart == ["mlx-lm"]
    assert "Two copies do not fit" in capsys.readouterr().err
    assert lines(facts, found)[-1] == "Measured afterwards, not in turns: mlx-lm."


class FakePeer:
    version = "1"

    def __call__(self, prompt: list[int], decode: int) -> Sample:
        return Sample(1.0, 1.0, 1)


@pytest.mark.slow
def test_table(gemma4: Runner) -> None:
    done = gemma4("bench", "--context", "5", "--decode", "3", "--runs", "1", *ALONE)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    *_, title, head, row = done.stdout.partition("\ncontext 5: ")[2].splitlines()[:3]
    assert title.startswith("a token reads ")
    assert head.startswith("  ") and "decode tok/s" in head
    assert row.startswith(("mlx-gemma4 ", "kernels off ")) and row.endswith(" MB")
    assert "built-in demo model" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--context", "5,x"), "--context takes whole numbers"),
        (("--context", "0"), "--context takes whole numbers"),
        (("--context", ""), "--context takes whole numbers"),
        (("--context", "4096"), "Decode less or measure at 4,092 tokens or less."),
        (("--decode", "4096"), "4,096 cannot be decoded"),
        (("--decode", "0"), "--decode"),
        (("--runs", "0"), "--runs"),
        (("--against", "llama"), "--against takes mlx-lm or none"),
    ],
)
def test_refused(gemma4: Runner, options: tuple[str, str], words: str) -> None:
    done = gemma4("bench", "-m", "demo", "--decode", "3", *options)
    assert done.returncode == 2
    assert words in done.stderr and not done.stdout


def test_a_model_that_is_not_there(gemma4: Runner) -> None:
    done = gemma4("bench", "-m", "./nowhere")
    assert done.returncode == 3 and not done.stdout


@pytest.mark.slow
def test_ctrl_c(gemma4: Runner) -> None:
    process = gemma4.start("bench", "-m", "demo", "--runs", "100000", *ALONE)
    assert process.stderr is not None
    assert b"warm-up" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"(stopped)" in err and b"Traceback" not in err and not out


@pytest.mark.slow
@pytest.mark.parametrize("against", [None, "mlx-lm"])
def test_mlx_lm_that_does_not_run_the_model(
    against: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A note by default, an error where it was asked for."""

    def fail(*_: object) -> None:
        raise PeerError("It has no such model.")

    monkeypatch.setattr("mlx_gemma4.bench.peer.Peer", fail)
    wishes = Wishes([5], decode=2, runs=1, against=against)
    if against:
        with pytest.raises(PeerError):
            run("demo", wishes, Screen())
        return
    _, found = run("demo", wishes, Screen())
    assert "mlx-lm" not in [each.name for each in found[5]]
    assert "mlx-lm is left out. It has no such model." in capsys.readouterr().err


@pytest.mark.slow
def test_a_peer_that_ends(demo_folder: Path) -> None:
    peer = Peer(demo_folder, "float32")
    peer.process.kill()
    peer.process.wait()
    with peer, pytest.raises(PeerError, match="does not run this model"):
        peer([5, 6], 2)
