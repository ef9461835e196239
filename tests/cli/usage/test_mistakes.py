"""What a slip on the command line is told."""

import json
from pathlib import Path

import pytest
from typing_in import Typed


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    return Typed(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        # commands
        ("chta", "No such command 'chta'. Did you mean chat?"),
        ("tune evl x", "No such command 'evl'. Did you mean eval?"),
        ("ask", "No such command 'ask'. Did you mean chat?"),
        ("run e4b", "No such command 'run'. Did you mean gemma4 chat -m e4b?"),
        ("run gemma4", "No such command 'run'. Did you mean gemma4 chat?"),
        ("run gemma4:e4b x", "No such command 'run'. Did you mean gemma4 chat -m e4b?"),
        ("run a/b", "No such command 'run'. Did you mean gemma4 chat -m a/b?"),
        (
            "'Why is it?'",
            "No such command 'Why is it?'. To ask it: gemma4 chat \"Why is it?\"",
        ),
        ("conv", "No such command 'conv'. Did you mean convert?"),
        ("zzz", "No such command 'zzz'."),
        ("version", "No such command 'version'. Did you mean --version?"),
        # options
        (
            "chat --tempature 1",
            "No such option: --tempature. Did you mean --temperature?",
        ),
        (
            "chat -temperature=1",
            "No such option: -temperature. Did you mean --temperature?",
        ),
        ("chat --temp=1", "No such option: --temp. Did you mean --temperature?"),
        ("chat --zzz", "No such option: --zzz."),
        ("chat -z", "No such option: -z."),
        ("chat -iz", "No such option: -z."),
        ("--model demo chat", "--model stands behind its command: gemma4 chat --model"),
        # values
        ("chat --seed many", "--seed is 'many'; it takes a whole number from 0."),
        ("chat --top-p 2", "--top-p is '2'; it takes a number from 0 to 1."),
        ("describe --budget x", "--image-tokens is 'x'; it takes a whole number."),
        (
            "tune train x --schedule cosin",
            "--schedule is 'cosin'; it takes cosine, linear or constant. Did you mean "
            "cosine?",
        ),
        (
            "tune export a b --to zzz",
            "--to is 'zzz'; it takes peft or mlx.",
        ),
        ("tune fuse a", "OUT is missing: The folder to make."),
        ("logs search", "WORDS is missing: Words, or how they begin."),
        # words
        ("chat hi there", 'The prompt needs quotes: gemma4 chat "hi there"'),
        (
            "chat is it '$5'",
            "The prompt needs quotes: gemma4 chat 'is it $5'",
        ),
        ("bench demo", "bench takes no 'demo'. Did you mean --model demo?"),
        (
            "tune fuse a b c",
            "fuse takes ADAPTER and OUT; 'c' is one too many. A name with spaces in it "
            "needs quotes.",
        ),
    ],
)
def test_a_slip_is_told_with_its_remedy(typed: Typed, words: str, said: str) -> None:
    code, out, err = typed(words)
    first, hint = err.splitlines()
    assert (code, out, first) == (2, "", f"gemma4: {said}")
    assert hint.startswith("Try 'gemma4")


def test_several_pictures_behind_one_option(typed: Typed, here: Path) -> None:
    _, _, err = typed("chat --image a.png 'b c.png' 'what is it'")
    assert err.splitlines()[0] == (
        "gemma4: --image takes one file; name it again: gemma4 chat --image a.png "
        "--image 'b c.png' \"what is it\""
    )


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("NO_HISTORY", "maybe", "true or false."),
        ("PLE", "cloud", "auto, memory or disk."),
        ("MAX_CONTEXT", "0", "a whole number from 1."),
        ("KV_BITS", "4", "8, or 0 for none. Fewer bits are not offered: 4 put"),
        ("PROMPT_CACHE", "-1", "auto, off, or how many GB all kept prompts may take."),
        ("DRAFT", "lockup", "auto, assistant, lookup, off, or a drafter: a folder"),
    ],
)
def test_a_variable_is_named(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, name: str, value: str, taken: str
) -> None:
    monkeypatch.setenv(f"GEMMA4_{name}", value)
    code, _, err = typed("chat hi")
    said = f"gemma4: GEMMA4_{name} is {value!r}; it takes {taken}"
    assert code == 2 and err.startswith(said)


def test_kernels_that_do_not_exist(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMMA4_KERNELS", "bogus")
    for command in ("chat -m ./nowhere hi", "bench -m ./nowhere", "tune train x"):
        code, _, err = typed(command)
        assert code == 2 and "no kernel is called 'bogus'" in err


def test_a_group_alone_shows_its_help(typed: Typed) -> None:
    code, out, err = typed("tune")
    assert (code, out) == (2, "") and err.startswith("Usage: gemma4 tune ")
    assert err == typed("tune --help")[1]


def test_as_json(typed: Typed) -> None:
    code, out, err = typed("chat --json --seed x hi")
    assert (code, out) == (2, "")
    assert json.loads(err)["error"] == {
        "code": 2,
        "message": "--seed is 'x'; it takes a whole number from 0.",
        "hint": "Try 'gemma4 chat --help'.",
    }
