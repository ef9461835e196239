"""`--ple`: what it may say, where else it is said, and that answers are the same."""

from pathlib import Path

import pytest
from command import Runner

from mlx_gemma4.cli.settings import Settings
from mlx_gemma4.config.ple import Ple

QUESTION, ANSWER = "What is the capital of France?", "The capital of France is Paris.\n"
GREEDY = ("-m", "demo", "--temperature", "0")
HELD = "per-layer embeddings: on disk, "


def test_it_changes_no_answer_and_belongs_to_no_conversation() -> None:
    settings = Settings(ple=Ple.DISK)
    assert "ple" not in settings.options and "ple" not in settings.kept


@pytest.mark.slow
def test_answers_are_the_same(gemma4: Runner) -> None:
    for ple in Ple:
        done = gemma4("chat", *GREEDY, "--ple", ple, QUESTION)
        assert (done.returncode, done.stdout) == (0, ANSWER)
    done = gemma4("chat", *GREEDY, "--ple", "cloud", QUESTION)
    assert done.returncode == 2 and "it takes auto, memory or disk" in done.stderr


@pytest.mark.slow
def test_settings_and_environment_say_it_too(gemma4: Runner) -> None:
    typed = ("chat", *GREEDY, "-i")

    def shown(*more: str) -> str:
        return gemma4(*typed, *more, stdin="/show\n/bye").stderr

    assert HELD not in shown()
    gemma4.environ["GEMMA4_PLE"] = "disk"
    assert HELD in shown() and HELD not in shown("--ple", "memory")
    del gemma4.environ["GEMMA4_PLE"]
    file = Path(gemma4.environ["XDG_CONFIG_HOME"]) / "gemma4" / "config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('ple = "disk"\n')
    assert HELD in shown()


@pytest.mark.slow
def test_show_tells_both_sizes(gemma4: Runner) -> None:
    done = gemma4("show", "demo")
    assert done.returncode == 0 and " with --ple disk" in done.stdout
