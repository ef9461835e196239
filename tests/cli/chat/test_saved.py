"""Saved conversations with media: paths in the file, and read again."""

import json

import pytest
from scripted import Lines, roles, shapes

from mlx_gemma4.cli.attach.messages import media_of
from mlx_gemma4.cli.chat.interactive import converse
from mlx_gemma4.cli.logs.rows import message_row, turn_of
from mlx_gemma4.cli.settings import Settings


def test_saved_media_are_paths_and_come_back(seeing, script, here, monkeypatch):
    converse(seeing, Lines("./a.png and ./d.wav", "two", "/save talk.json"))
    saved = json.loads((here / "talk.json").read_text())
    assert saved["messages"][0]["content"] == [
        {"type": "image", "path": f"{here}/a.png", "image_tokens": None},
        {"type": "audio", "path": f"{here}/d.wav"},
        {"type": "text", "text": "and"},
    ]
    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    converse(seeing, Lines("/clear", "/load ../talk.json", "three"))
    sent = script.asked[2].messages
    assert shapes(sent[0]) == ["a.png", "d.wav", "and"]
    assert seeing.chat.processor(sent).media.audio


def test_loading_what_has_vanished_loses_nothing(seeing, here, capsys):
    converse(seeing, Lines("./a.png one", "/save talk.json", "/clear", "new"))
    (here / "a.png").unlink()
    converse(seeing, Lines("/image b\\ c.png", "/load talk.json"))
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"talk.json needs {here}/a.png, which is not there any more: put it back and "
        "load again. Nothing was loaded."
    )
    assert shapes(seeing.chat.messages[0]) == ["new"]
    assert len(seeing.chat.attached) == 1


def test_loading_what_is_damaged_now(seeing, here, capsys):
    converse(seeing, Lines("./a.png one", "/save talk.json", "/clear"))
    (here / "a.png").write_bytes(b"")
    converse(seeing, Lines("/load talk.json"))
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"{here}/a.png is empty" in said
    assert said.endswith("Nothing was loaded from talk.json.")


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "image"}],
        [{"type": "smell", "path": "a.png"}],
        [{"type": "text", "text": 3}],
        [{"type": "image", "path": "a.png", "image_tokens": 71}],
        [{"type": "image", "path": "a.png", "image_tokens": True}],
        [{"type": "audio", "path": "d.wav", "track": 0}],
        [{"type": ["image"], "path": "a.png"}],
        ["a.png"],
        [],
    ],
)
def test_damaged_parts_are_refused(seeing, here, capsys, content):
    file = here / "talk.json"
    converse(seeing, Lines("one", f"/save {file}"))
    saved = json.loads(file.read_text())
    saved["messages"][0]["content"] = content
    file.write_text(json.dumps(saved))
    converse(seeing, Lines(f"/load {file}"))
    assert "messages[0] is not as /save writes it" in capsys.readouterr().err


def test_conversations_saved_before_there_were_pictures(seeing, here):
    converse(seeing, Lines("one", "/save talk.json"))
    saved = json.loads((here / "talk.json").read_text())
    assert saved["settings"] == Settings().kept
    del saved["settings"]["image_tokens"]
    (here / "talk.json").write_text(json.dumps(saved))
    converse(seeing, Lines("/clear", "/load talk.json"))
    assert roles(seeing) == "user assistant"


def budgets(session) -> list[int]:
    """How many soft tokens each picture of the conversation takes."""
    parts = [part for m in session.chat.messages for part in media_of(m)]
    return [part["image"].text.count("<|image|>") for part in parts]


def test_each_picture_comes_back_at_its_own_budget(seeing, script, here):
    lines = ("/set image_tokens 70", "./a.png one", "/set image_tokens 140")
    converse(seeing, Lines(*lines, "./a.png two", "/set image_tokens default"))
    converse(seeing, Lines("./a.png three"))
    before = budgets(seeing)
    assert len(set(before)) == 3
    converse(seeing, Lines("/save talk.json", "/clear", "/load talk.json"))
    assert budgets(seeing) == before
    assert seeing.chat.settings.image_tokens is None


def test_saved_pictures_without_a_budget_get_that_of_the_settings(seeing, here):
    converse(seeing, Lines("./a.png one", "/set image_tokens 70", "/save talk.json"))
    (default,) = budgets(seeing)
    saved = json.loads((here / "talk.json").read_text())
    del saved["messages"][0]["content"][0]["image_tokens"]
    (here / "talk.json").write_text(json.dumps(saved))
    converse(seeing, Lines("/clear", "/load talk.json"))
    assert budgets(seeing) != [default]


def test_a_conversation_of_a_program_that_calls_the_assistant_model(seeing, here):
    converse(seeing, Lines("one", "/save talk.json"))
    saved = json.loads((here / "talk.json").read_text())
    saved["messages"][1]["role"] = "model"
    (here / "talk.json").write_text(json.dumps(saved))
    converse(seeing, Lines("/clear", "/load talk.json"))
    assert roles(seeing) == "user assistant"


def test_a_thought_with_its_calls_comes_back(session, script, here):
    call = {"type": "function", "id": "call_0", "function": {"name": "f"}}
    call["function"]["arguments"] = {"city": "Rome"}
    said = {"role": "assistant", "content": "", "reasoning": "hm", "tool_calls": [call]}
    asked = {"role": "user", "content": "one"}
    result = {"role": "tool", "tool_call_id": "call_0", "content": "sunny"}
    session.chat.messages = [asked, said, result]
    converse(session, Lines("/save talk.json", "/clear", "/load talk.json"))
    assert session.chat.messages == [asked, said, result]
    kept = [turn_of(1, None, *message_row(said), "stop", 0.0).message]
    assert kept == [said]
