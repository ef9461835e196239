"""`--draft`: what it may say, what is loaded for it, and what is told of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_assistants
from command import Runner
from scripted import Lines, chunks

from mlx_gemma4 import Stats
from mlx_gemma4.cli.chat import switching
from mlx_gemma4.cli.chat.interactive import converse
from mlx_gemma4.cli.drafts import MODES, OFF, check_draft, drafter_of, mode_of
from mlx_gemma4.cli.render import stats_line
from mlx_gemma4.cli.settings import Settings
from mlx_gemma4.decoding.drafts import DRAFTS
from mlx_gemma4.errors import ChatError

QUESTION, ANSWER = "What is the capital of France?", "The capital of France is Paris.\n"
GREEDY = ("-m", "demo", "--temperature", "0")


def test_the_ways_are_those_of_the_library():
    assert MODES == DRAFTS


def test_a_way_is_no_drafter_and_a_drafter_is_used_as_it_pays():
    assert [mode_of(each) for each in (None, *MODES)] == [None, *MODES]
    assert [drafter_of(each) for each in (None, "auto", "assistant")] == [None] * 3
    assert [drafter_of(each) for each in ("lookup", "off")] == [OFF, OFF]
    assert (mode_of("a/b"), drafter_of("a/b")) == ("auto", "a/b")


def test_what_can_be_a_drafter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (None, *MODES, str(tmp_path), "~", "org/name", "org/name@main"):
        check_draft(name)
    for name in ("", "assistent", "a/b/c", "./nowhere", "on\n", 1, True):
        with pytest.raises(ChatError, match="auto, assistant, lookup, off"):
            check_draft(name)  # type: ignore[arg-type]
    with pytest.raises(ChatError, match="Did you mean assistant?"):
        check_draft("assistent")


@pytest.mark.parametrize(
    ("gain", "told"),
    [
        (0.84, "41 of 1,060 drafts right, 0.8 s gained"),
        (-1.26, "41 of 1,060 drafts right, 1.3 s lost"),
        (0.01, "41 of 1,060 drafts right"),
        (None, "41 of 1,060 drafts right"),
    ],
)
def test_statistics_tell_of_drafts(gain: float | None, told: str):
    stats = Stats(3, 0, 1, drafted=1060, accepted=41, draft_gain=gain)
    assert stats_line(stats).endswith(f" · {told}")
    assert "draft" not in stats_line(replace(stats, drafted=0, accepted=0))


def test_json_tells_of_drafts(session, script, capsys):
    (last,) = chunks("word")
    assert last.stats is not None
    stats = replace(last.stats, drafted=5, accepted=3, draft_gain=0.123456)
    session.screen.as_json = True
    script.answer = lambda messages: [replace(last, stats=stats)]
    converse(session, Lines("one"))
    told = json.loads(capsys.readouterr().out)
    assert (told["usage"]["drafted"], told["usage"]["accepted"]) == (5, 3)
    assert told["timings"]["draft_gain_s"] == 0.1235


def test_set_says_how_drafts_are_made(seeing, script, capsys):
    lines = ("/set draft lookup", "one", "/set draft off", "/show", "two")
    converse(seeing, Lines(*lines))
    assert [asked.draft for asked in script.asked] == ["lookup", "off"]
    told = capsys.readouterr().err
    assert "draft = lookup\n" in told and "settings: draft off\n" in told
    assert "drafter: " not in told


@pytest.mark.parametrize("origin", ["google/gemma-4-E2B-it", None])
def test_what_cannot_be_set_changes_nothing(
    origin, session, script, capsys, monkeypatch
):
    for find in ("resolve", "local_folder"):
        monkeypatch.setattr(
            f"mlx_gemma4.hub.resolve.{find}", lambda name, *_: Path(name)
        )
    monkeypatch.setattr("mlx_gemma4.hub.drafters.origin", lambda folder: origin)
    converse(session, Lines("/set draft assistant", "/set draft lockup", "one"))
    told = capsys.readouterr().err
    assert ("`gemma4 pull scripted --draft`" in told) == (origin is not None)
    assert "--draft DIR takes one from elsewhere" in told
    assert "Did you mean lookup?" in told
    assert script.asked[0].draft is None


def test_a_conversation_is_kept_without_them(session, here, capsys):
    session.chat.settings.draft = "lookup"
    converse(session, Lines("one", "/save talk.json"))
    assert "draft" not in json.loads((here / "talk.json").read_text())["settings"]
    session.chat.settings.draft = "off"
    converse(session, Lines("/load talk.json"))
    assert session.chat.settings.draft == "off"


@pytest.fixture
def paired(demo_folder: Path, tmp_path: Path) -> Path:
    """The demo model with a drafter of random weights in its folder."""
    folder = shutil.copytree(demo_folder, tmp_path / "paired")
    shutil.rmtree(folder / "assistant", ignore_errors=True)
    model = json.loads((folder / "config.json").read_text())
    config = tiny_assistants.config_dict(model, ordered=False)
    tiny_assistants.write(folder / "assistant", config, seed=1)
    return folder


@pytest.mark.slow
def test_drafts_change_nothing_that_is_said(gemma4: Runner, paired: Path):
    asked = ("chat", "-m", str(paired), "--json", "--seed", "3", "Tell me of the sea.")
    plain = json.loads(gemma4(*asked, "--draft", "off").stdout)
    assert plain["usage"]["drafted"] == 0
    for draft in ("assistant", "lookup", "auto", str(paired / "assistant")):
        told = json.loads(gemma4(*asked, "--draft", draft).stdout)
        assert told["text"] == plain["text"] and told["seed"] == 3
        assert (told["usage"]["drafted"] > 0) >= (draft == "assistant")
        assert told["usage"]["accepted"] <= told["usage"]["drafted"]


@pytest.mark.slow
def test_a_drafter_comes_and_goes_in_a_conversation(gemma4: Runner, paired: Path):
    lines = ("/show", "/set draft assistant", "/show", QUESTION, "/stats", "/bye")
    typed = "\n".join(lines)
    options = ("-i", "--temperature", "0", "--draft", "lookup")
    done = gemma4("chat", "-m", str(paired), *options, stdin=typed)
    assert (done.returncode, done.stdout) == (0, ANSWER)
    assert done.stderr.count(f"drafter: {paired / 'assistant'}\n") == 1
    assert "settings: temperature 0.0, draft assistant\n" in done.stderr
    assert " drafts right" in done.stderr


@pytest.mark.slow
def test_another_models_drafter_is_refused(
    gemma4: Runner, paired: Path, tmp_path: Path
):
    file = paired / "assistant" / "config.json"
    config = json.loads(file.read_text())
    other = tiny_assistants.config_dict(config | {"model_type": "gemma4"}, False)
    other["backbone_hidden_size"] += 1
    folder = tiny_assistants.write(tmp_path / "other", other, 1)
    for draft in ("demo", str(folder)):
        done = gemma4("chat", *GREEDY, "--draft", draft, QUESTION)
        assert done.stdout == "" and done.returncode in (2, 3)
    assert "was not made for" in done.stderr and "backbone_hidden_size" in done.stderr
    done = gemma4("chat", "-m", str(paired), "--draft", str(paired), QUESTION)
    assert done.returncode == 3 and "a drafter's is" in done.stderr


@pytest.mark.slow
def test_settings_and_environment_say_it_too(gemma4: Runner, tmp_path: Path):
    file = Path(gemma4.environ["XDG_CONFIG_HOME"]) / "gemma4" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('draft = "lookups"\n')
    done = gemma4("chat", *GREEDY, QUESTION)
    assert done.returncode == 2 and "Did you mean lookup?" in done.stderr
    file.write_text('draft = "lookup"\n')
    gemma4.environ["GEMMA4_DRAFT"] = "off"
    assert gemma4("chat", *GREEDY, QUESTION).stdout == ANSWER
    done = gemma4("chat", *GREEDY, "--draft", "lookup", "--stats", QUESTION)
    assert done.stdout == ANSWER and "drafts" in done.stderr


@pytest.mark.slow
def test_a_drafter_of_another_model_is_let_go(session, capsys, monkeypatch):
    asked: list[str | None] = []
    model = session.chat.model

    def load(name: str, *_: object, draft: str | None, **__: object) -> object:
        asked.append(draft)
        return model, object(), name

    monkeypatch.setattr(switching, "obtain", lambda name, *_: name)
    monkeypatch.setattr(switching, "open_model", load)
    monkeypatch.setattr("mlx_gemma4.hub.resolve.resolve", lambda name: Path(name))
    monkeypatch.setattr("mlx_gemma4.config.Config.from_file", lambda path: None)
    session.chat.settings.draft = "lookup"
    converse(session, Lines("/model other"))
    assert (asked, session.chat.settings.draft) == (["lookup"], "lookup")
    session.chat.settings.draft = "org/drafter"
    converse(session, Lines("/model third"))
    assert (asked[1], session.chat.settings.draft) == (None, None)
    assert "org/drafter is for other; now draft = default." in capsys.readouterr().err


def test_a_drafter_that_cannot_be_had_leaves_the_one_from_before(
    session, capsys, monkeypatch, tmp_path
):
    session.chat.model.drafter = before = object()
    monkeypatch.setattr("mlx_gemma4.hub.resolve.resolve", lambda name: tmp_path)
    (tmp_path / "config.json").write_text("{}")
    converse(session, Lines(f"/set draft {tmp_path}"))
    assert session.chat.model.drafter is before
    assert session.chat.settings == Settings()
    assert "model_type" in capsys.readouterr().err
