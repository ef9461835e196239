"""`gemma4 bench --drafts`: what it prints, and what it refuses. No timing is judged."""

import json
from typing import Any

import pytest
from command import Runner

from mlx_gemma4.bench.drafting import Answered
from mlx_gemma4.cli.bench import drafts
from mlx_gemma4.cli.bench.command import bench_drafts, check_alone
from mlx_gemma4.cli.bench.drafts import Facts, as_json, lines
from mlx_gemma4.cli.errors import UsageError
from mlx_gemma4.cli.render import Screen
from mlx_gemma4.config.ple import Ple

SMALL = ("bench", "-m", "demo", "--drafts", "--decode", "8", "--runs", "1")
FACTS = Facts("m", "a GPU", "bfloat16", True, 9, 3, {"mlx-gemma4": "1", "mlx": "2"})


def answers(*seconds: float, last: int = 5, drafted: int = 0) -> list[Answered]:
    return [
        Answered((3, 4, last), clock, 9.0, drafted, drafted // 2) for clock in seconds
    ]


FOUND = {
    "Tell me": {
        "off": answers(0.2, 0.4, 0.3),
        "auto": answers(0.1, 0.1, 0.15, drafted=4),
        "lookup": answers(0.3, 0.3, 0.3, last=6),
    }
}


def test_table() -> None:
    assert lines(FACTS, FOUND) == [
        "m in bfloat16 on a GPU; mlx-gemma4 1, mlx 2",
        "answers of at most 9 tokens, 3 rounds after a warm-up: median [least-most]",
        "",
        "Tell me",
        "        decode tok/s      accepted  decode / off",
        "off     6.67 [5.00-10.0]",
        "auto    20.0 [13.3-20.0]  6 of 12   2.00 [2.00-4.00] faster",
        "lookup  6.67 [6.67-6.67]  0 of 0    1.00 [0.667-1.33] ranges overlap",
        "lookup says something else in 3 of 3 rounds.",
    ]


def test_json() -> None:
    found = as_json(FACTS, FOUND)
    assert found["drafter"] and found["most"] == 9
    (prompt,) = found["prompts"]
    off, auto, lookup = prompt["results"]
    assert off["name"] == "off" and off["decode_ratio"]["median"] == 1
    assert auto["verdict"] == "faster" and auto["other_answers"] == 0
    assert auto["runs"][2]["seconds"] == 0.15 and auto["runs"][2]["accepted"] == 2
    assert lookup["other_answers"] == 3


@pytest.mark.slow
def test_command(gemma4: Runner) -> None:
    done = gemma4(*SMALL)
    assert done.returncode == 0, done.stderr
    first = [line.partition(" ")[0] for line in done.stdout.splitlines()]
    kinds = ("off", "auto", "assistant", "lookup")
    assert [first.count(kind) for kind in kinds] == [2] * 4
    assert "no drafter" not in done.stderr


def test_the_drafter_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "take_rounds", lambda *_: {})
    facts, found = drafts.measure("demo", "Hello!", 4, 1, False, Screen())
    assert facts.drafter and found == {"Hello!": {}}


@pytest.mark.slow
def test_a_prompt_of_ones_own(gemma4: Runner) -> None:
    done = gemma4(*SMALL, "--json", "--prompt", "What is the capital of France?")
    assert done.returncode == 0, done.stderr
    (prompt,) = json.loads(done.stdout)["prompts"]
    assert prompt["prompt"] == "What is the capital of France?"
    assert {each["runs"][0]["tokens"] for each in prompt["results"]} == {8}


@pytest.mark.parametrize(
    "given, told",
    [
        ({"context": "5"}, "--context does not go with --drafts."),
        ({"against": "none"}, "--against does not go with --drafts."),
        ({"share": True}, "--share does not go with --drafts."),
    ],
)
def test_what_does_not_go_together(given: dict[str, Any], told: str) -> None:
    options = {"context": None, "against": None, "share": False} | given
    with pytest.raises(UsageError, match=told):
        check_alone(**options)


def test_an_empty_prompt() -> None:
    with pytest.raises(UsageError, match="--prompt is empty"):
        bench_drafts("demo", " ", 8, 1, False, Screen(), Ple.AUTO, None)


@pytest.mark.slow
def test_a_prompt_without_drafts(gemma4: Runner) -> None:
    done = gemma4("bench", "-m", "demo", "--prompt", "Hello")
    assert done.returncode == 2 and "--prompt goes with --drafts." in done.stderr
