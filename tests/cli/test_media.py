"""`gemma4 chat --image … --audio … --video …`: one answer about files."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_media
from command import GREEDY
from typer.testing import CliRunner, Result

from mlx_gemma4.cli.app import app

SHORT = (*GREEDY, "--max-tokens", "3")


@pytest.fixture
def model(whole: Path) -> str:
    return str(whole)


@pytest.fixture(scope="module")
def blind_and_deaf(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("blind")
    tiny_media.write_checkpoint(folder, vision=None, audio=None)
    return str(folder)


pytestmark = pytest.mark.usefixtures("here")


def run(model: str, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["chat", "-m", model, *arguments], input=stdin)


def prompt_tokens(model: str, *options: str, stdin: str | None = None) -> int:
    result = run(model, "--json", *SHORT, *options, stdin=stdin)
    assert result.exit_code == 0 and result.stderr == ""
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer["usage"]["prompt"]


@pytest.mark.slow
def test_every_file_is_read(model):
    text = prompt_tokens(model, "What?")
    one = prompt_tokens(model, "--image", "a.png", "What?")
    two = prompt_tokens(model, "--image", "a.png", "--image", "b c.png", "What?")
    assert text + 9 < one < two - 9
    both = ("--audio", "d.wav", "--image", "a.png")
    heard = prompt_tokens(model, *both, "-", stdin="What?")
    assert heard == one + 13 + 2  # 25 soft tokens a second, begin and end


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--budget", "--image-tokens"])
def test_more_tokens_for_a_picture(model, option):
    few = prompt_tokens(model, "--image", "a.png", "What?")
    assert prompt_tokens(model, "--image", "a.png", option, "70", "What?") > few + 40


def test_files_go_with_the_first_message_of_a_conversation(model, here):
    files = ("--audio", "d.wav", "--image", "a.png", "--image", "b c.png")
    lines = "/image\nWhat?\n/save talk.json\n"
    result = run(model, "-i", *SHORT, *files, stdin=lines)
    assert result.exit_code == 0
    notes = ["d.wav (audio, 0.5 s)", "a.png (image, 40x30)", "b c.png (image, 30x40)"]
    assert result.stderr.splitlines()[:6] == [f"attached {n}" for n in notes] * 2
    saved = json.loads((here / "talk.json").read_text())
    content = saved["messages"][0]["content"]
    assert [part["type"] for part in content] == ["audio", "image", "image", "text"]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--image", "gone.png"), 5, "There is no file "),
        (("--audio", "a.png"), 2, "a.png is no recording: attach it with --image."),
        (("--image", "."), 5, "is a folder"),
        (("--image-tokens", "71"), 2, "--budget (image_tokens) is 71; it can be 70"),
    ],
)
def test_what_cannot_be_attached(model, options, code, said):
    result = run(model, *options, "What?")
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr and result.stderr.count("\n") == 1
    result = run(model, *options, "--json", "What?")
    error = json.loads(result.stderr)["error"]
    assert error["code"] == code and said in error["message"]


@pytest.mark.parametrize(
    ("options", "sense"),
    [(("--image", "a.png"), "see"), (("--audio", "d.wav"), "hear")],
)
def test_a_model_without_the_sense(blind_and_deaf, options, sense):
    result = run(blind_and_deaf, *options, "What?")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"gemma4: {blind_and_deaf} cannot {sense}")


def test_a_missing_file_is_found_before_the_model_is_loaded(here):
    result = run("no/such/model", "--image", "gone.png", "What?")
    assert result.stderr == f"gemma4: There is no file {here}/gone.png.\n"


def test_a_path_in_the_prompt_is_attached_and_said(model):
    named = run(model, *SHORT, "--json", "What is ./a.png?")
    given = run(model, *SHORT, "--json", "--image", "a.png", "What is?")
    assert named.stderr == '{"note": "attached a.png (image, 40x30)"}\n'
    prompts = [
        json.loads(result.stdout)["usage"]["prompt"] for result in (named, given)
    ]
    assert prompts[0] == prompts[1]


def test_a_path_in_what_is_piped_or_not_meant_is_words(model, here):
    piped = run(model, *SHORT, "What?", stdin="./a.png\n")
    refused = run(model, *SHORT, "--no-attach", "./a.png")
    sent = run(model, *SHORT, f"/{here}/a.png")  # with two slashes before it
    for result in (piped, refused, sent):
        assert result.exit_code == 0 and "attached" not in result.stderr


@pytest.mark.slow
def test_a_text_file_in_the_prompt(model, here):
    short = prompt_tokens(model, "--no-attach", "Sum up ./notes.txt")
    result = run(model, "--json", *SHORT, "Sum up ./notes.txt")
    assert json.loads(result.stdout)["usage"]["prompt"] > short + 9
    assert "attached notes.txt (text, 1 line)" in result.stderr


@pytest.mark.parametrize(
    ("prompt", "code", "said"),
    [
        ("./gone.png", 5, "There is no file"),
        ("gone.png", 5, "There is no file"),
        ("./a.png", 2, "That is only files. Say what to do with them"),
        ("what is ./bad.png", 5, "bad.png is damaged"),
    ],
)
def test_prompts_that_cannot_be_asked(model, prompt, code, said):
    result = run(model, prompt)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr


def test_only_files_are_refused_before_a_model_is_loaded(here):
    result = run("no/such/model", "./a.png")
    assert result.exit_code == 2 and "That is only files" in result.stderr
