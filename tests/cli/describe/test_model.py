"""`gemma4 describe` with a tiny model that sees; as a process, as its users run it."""

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from command import ENDLESS
from describing import picture
from typer.testing import CliRunner
from videos import video

from mlx_gemma4 import generate, load
from mlx_gemma4.cli.app import app
from mlx_gemma4.vision.images import target_size

GREEDY = ("--temperature", "0", "--max-tokens", "5")
BUDGET = 12  # the tiny checkpoint's own


@pytest.fixture
def model(whole: Path) -> Path:
    return whole


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def described(model: Path, *arguments: str) -> dict[str, Any]:
    words = ["describe", *arguments, "-m", str(model), "--json", *GREEDY]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def prompt_tokens(model: Path, *arguments: str) -> int:
    return described(model, *arguments)["usage"]["prompt"]


@pytest.mark.slow
def test_the_answer_is_the_library_s(model):
    picture("a.png", 1)
    picture("b.png", 2, size=(48, 96))
    parts = [{"type": "image", "path": name} for name in ("a.png", "b.png")]
    parts.append({"type": "text", "text": "Describe these images."})
    response = generate(
        *load(model), [{"role": "user", "content": parts}], temperature=0, max_tokens=5
    )
    value = described(model, "a.png", "b.png")
    assert response.stats is not None
    assert value["text"] == response.text
    assert value["usage"]["prompt"] == response.stats.prompt_tokens


@pytest.mark.slow
def test_the_budget(model):
    """A prompt grows by as many tokens as the picture takes more."""
    picture("a.png", size=(480, 360))
    own, more = (
        prompt_tokens(model, "a.png"),
        prompt_tokens(model, "a.png", "--budget=70"),
    )
    sizes = (target_size(360, 480, budget) for budget in (70, BUDGET))
    large, small = (height * width // 48**2 for height, width in sizes)
    assert more - own == large - small > 40


@pytest.mark.slow
def test_frames_of_a_video(model, tmp_path):
    """Of 5 s: 4 frames are the checkpoint's own number."""
    video("mp4", tmp_path / "v.mp4")
    one, two = (prompt_tokens(model, "v.mp4", "--frames", n) for n in "12")
    four, five = prompt_tokens(model, "v.mp4"), prompt_tokens(model, "v.mp4", "--fps=1")
    assert two - one == (four - two) // 2 == five - four > 5


@pytest.mark.slow
def test_a_video_from_standard_input(model, tmp_path):
    data = video("mp4", tmp_path / "v.mp4").read_bytes()
    words = ["describe", "-", "-m", str(model), *GREEDY]
    assert CliRunner().invoke(app, words, input=data).exit_code == 0
    result = CliRunner().invoke(app, words, input=data[:1000])
    assert result.exit_code == 5
    assert re.match("gemma4: standard input: The video ", result.stderr)


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error(model, gemma4):
    name = picture(str(gemma4.folder / "a.png"))
    with gemma4.start("describe", name, "-m", str(model), *ENDLESS) as process:
        assert process.stdout and process.stderr
        assert process.stdout.read(1)
        process.stdout.close()
        err = process.stderr.read().decode()
        assert (process.wait(60), err) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--json",), ("--boxes", "out.png")])
def test_ctrl_c(model, gemma4, options):
    name = picture(str(gemma4.folder / "a.bmp"), size=(256, 256))
    ask = ("describe", "-", "-m", str(model), *ENDLESS, "--max-tokens", "9999999")
    with gemma4.start(*ask, *options, stdin=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        # More than a pipe holds: once it is written, the command is under way.
        process.stdin.write(Path(name).read_bytes())
        process.stdin.close()
        if options:  # nothing is printed before the end: it may be anywhere
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
        else:
            assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        err = process.stderr.read().decode()
        assert process.wait(60) == 130
        assert "stopped" in err and "Traceback" not in err
    assert not (gemma4.folder / "out.png").exists()


@pytest.mark.slow
def test_on_a_terminal(model, gemma4, terminal):
    names = [f"{n}.png" for n in (1, 2)]
    for name in names:
        picture(str(gemma4.folder / name))
    opened = terminal("describe", *names, "--each", "-m", str(model), *GREEDY)
    assert opened.finish() == 0
    shown = re.search(r"2/2 2\.png ━{14}╺━{13} +50%", opened.text)
    assert shown and "1.png:" in opened.text
