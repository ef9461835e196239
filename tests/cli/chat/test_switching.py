"""/model: another model goes on with the conversation, or the one from before does."""

import gc
import shutil
import weakref
from pathlib import Path

import pytest
from scripted import Lines, roles, shapes

from mlx_gemma4.cli.chat import switching
from mlx_gemma4.cli.chat.command import open_session
from mlx_gemma4.cli.chat.interactive import converse
from mlx_gemma4.cli.chat.session import Session
from mlx_gemma4.cli.chat.setup import Setup
from mlx_gemma4.cli.render import Screen
from mlx_gemma4.cli.settings import Settings
from mlx_gemma4.errors import CheckpointError

FRANCE, ITALY = (f"What is the capital of {c}?" for c in ("France", "Italy"))


@pytest.fixture
def demo() -> Session:
    settings = Settings(temperature=0)
    return open_session(Setup("demo", None, None, None, settings), Screen())


@pytest.fixture
def other(demo_folder: Path, tmp_path: Path) -> Path:
    """The demo model by another name."""
    return shutil.copytree(demo_folder, tmp_path / "other")


@pytest.mark.slow
def test_another_model_goes_on(demo, other, capsys):
    before = weakref.ref(demo.chat.model)
    converse(demo, Lines("/model", FRANCE, f"/model {other}", ITALY))
    assert [m["content"] for m in demo.chat.messages[1::2]] == [
        "The capital of France is Paris.",
        "The capital of Italy is Rome.",
    ]
    assert demo.model_name == str(other)
    told = capsys.readouterr().err
    assert "model: demo\n" in told and f"model: {other}\n" in told
    gc.collect()
    assert before() is None


@pytest.mark.slow
def test_files_are_read_again(demo, other, here):
    converse(demo, Lines("/image a.png", FRANCE, "/image b\\ c.png"))
    before = [part["image"] for part in switching.media(demo)]
    converse(demo, Lines(f"/model {other}"))
    now = [part["image"] for part in switching.media(demo)]
    assert len(before) == len(now) == 2
    assert all(old is not new for old, new in zip(before, now, strict=True))
    assert shapes(demo.chat.messages[0]) == ["a.png", FRANCE]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [("demoo", "Did you mean demo?"), ("./nowhere", "./nowhere"), ("a/../b", "a/../b")],
)
def test_a_name_that_is_none_changes_nothing(demo, capsys, name, said):
    model = demo.chat.model
    converse(demo, Lines(FRANCE, f"/model {name}"))
    assert said in capsys.readouterr().err
    assert demo.chat.model is model and demo.model_name == "demo"


def test_a_model_that_cannot_see_what_was_shown_is_refused(
    demo, other, here, capsys, monkeypatch
):
    converse(demo, Lines("/image a.png"))
    monkeypatch.setattr(
        "mlx_gemma4.cli.model_senses.has_sense", lambda config, kind: False
    )
    model = demo.chat.model
    converse(demo, Lines(f"/model {other}"))
    assert "cannot see" in capsys.readouterr().err
    assert demo.chat.model is model


@pytest.mark.slow
def test_where_it_cannot_be_loaded_the_one_from_before_goes_on(demo, other, capsys):
    (other / "tokenizer.json").write_text("{}")
    converse(demo, Lines(FRANCE, f"/model {other}", ITALY))
    assert "tokenizer" in capsys.readouterr().err
    assert demo.model_name == "demo"
    assert demo.chat.messages[-1]["content"] == "The capital of Italy is Rome."


@pytest.mark.slow
def test_where_neither_can_be_loaded_the_conversation_is_kept(
    demo, other, capsys, monkeypatch, tmp_path
):
    def fail(*_: object, **__: object) -> None:
        raise CheckpointError("gone")

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(switching, "open_model", fail)
    with pytest.raises(SystemExit):
        converse(demo, Lines(FRANCE, f"/model {other}"))
    told = capsys.readouterr().err
    assert "demo could not be loaded again: gone" in told
    assert "The conversation is kept: /load" in told
    assert roles(demo) == "user assistant"


@pytest.mark.slow
def test_an_adapter_stays_with_its_model(demo, other, capsys):
    demo.adapter = Path("captain")
    converse(demo, Lines("/show", f"/model {other}", "/show"))
    told = capsys.readouterr().err
    assert "adapter: captain\n" in told and "captain is for demo, and is off" in told
    assert told.endswith("attached: (none)\n") and "adapter: (none)" in told


@pytest.mark.slow
def test_what_a_tool_showed_the_other_model_is_words(demo, other):
    result = {"role": "tool", "tool_call_id": "call_0", "content": []}
    result["content"] = [
        {"type": "text", "text": "a photo"},
        {"type": "image", "image": object()},
    ]
    demo.chat.messages = [result]
    converse(demo, Lines(f"/model {other}"))
    assert result["content"] == "a photo\n(image, not kept)"
