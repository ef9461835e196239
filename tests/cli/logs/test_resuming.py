"""`gemma4 chat -c` and `--session`: a kept conversation is gone on with."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from listening import run as listen
from scripted import Lines, branch, chunks, shapes

from mlx_gemma4 import Chunk, ToolCall
from mlx_gemma4.cli import loading
from mlx_gemma4.cli.app import app
from mlx_gemma4.cli.chat import command, setup
from mlx_gemma4.cli.chat.interactive import converse
from mlx_gemma4.cli.chat.session import Session
from mlx_gemma4.cli.logs.resuming import look_up, put_back
from mlx_gemma4.cli.logs.store import opened
from mlx_gemma4.errors import MediaError

Chat = Callable[..., int]


@pytest.fixture
def loaded(script, monkeypatch) -> list[str]:
    """The names of models that were loaded, each of which is the scripted one."""
    names: list[str] = []

    def load(name: str, *_: object) -> tuple[SimpleNamespace, SimpleNamespace]:
        names.append(name)
        text = SimpleNamespace(max_position_embeddings=4096)
        config = SimpleNamespace(text_config=text)
        model = SimpleNamespace(config=config, drafter=None)
        return model, SimpleNamespace(template=None)

    monkeypatch.setattr(loading, "obtain", lambda name, *_: name)  # all are here
    monkeypatch.setattr(loading, "load_to_chat", load)
    return names


@pytest.fixture
def chat(loaded, store, monkeypatch) -> Chat:
    """`gemma4 chat` with its options; the lines are typed."""

    def run(*options: str, lines: tuple[str, ...] = ()) -> int:
        def talk(session: Session, first: str | None, keep_history: bool) -> None:
            converse(session, Lines(*lines), first)

        monkeypatch.setattr(command, "talk", talk)
        try:
            return app(["chat", *options], standalone_mode=False) or 0
        except SystemExit as end:
            return int(end.code or 0)
        except Exception as end:
            return end.exit_code  # type: ignore[attr-defined]

    return run


def test_one_call_after_another(chat, script):
    assert chat("--log", "one") == 0
    assert chat("-c", "two") == 0
    asked = [m["content"] for m in script.asked[1].messages]
    assert asked == ["one", "you said one", "two"]
    assert branch() == [*asked, "you said two"]
    with opened() as store:
        assert store.count() == 1


def test_the_result_of_a_call_is_sent_as_it_stands(chat, script, tmp_path):
    (tmp_path / "notes.txt").write_text("secret")
    script.answer = lambda _: [Chunk("", token=1, tool_calls=(ToolCall("find", {}),))]
    assert chat("--log", "find it") == 0
    script.answer = lambda _: chunks("There.")
    assert chat("-c", f"{tmp_path}/notes.txt") == 0
    assert script.asked[1].messages[-1]["content"] == f"{tmp_path}/notes.txt"


def test_pipes_are_kept_only_where_one_says_so(chat, store, monkeypatch):
    assert chat("one") == chat("--json", "one") == 0
    assert not store.exists()
    monkeypatch.setenv("GEMMA4_LOG", "1")
    assert chat("one") == 0
    assert store.exists()


def test_what_decides_whether_a_run_is_kept(monkeypatch):
    def kept(asked=None, named=False, private=False, as_json=False) -> bool:
        return setup.is_kept(asked, as_json, named, private)

    stream = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(setup, "sys", SimpleNamespace(stdin=stream, stdout=stream))
    assert kept() and not kept(False) and not kept(False, named=True)
    assert not kept(private=True) and not kept(as_json=True)
    assert kept(True, private=True) and kept(named=True, as_json=True)
    monkeypatch.setenv("GEMMA4_NO_HISTORY", "1")
    assert not kept() and kept(named=True)


def test_a_name_begins_a_conversation_and_goes_on_with_it(chat, script):
    for words in ("one", "two"):
        assert chat("--session", "work", words) == 0
    assert chat("--log", "other") == 0
    assert chat("--session", "1", "three") == 0
    assert branch("work")[::2] == ["one", "two", "three"] and len(script.asked) == 4


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("-c",), "No conversation is kept yet. gemma4 chat begins one."),
        (("--session", "7"), "No conversation is kept yet."),
        (("--session", ""), "needs a name"),
        (("--session", "a\nb"), "needs a name"),
        (("-c", "--session", "work"), "Choose one of --continue and --session."),
    ],
)
def test_what_cannot_be_gone_on_with(chat, loaded, capsys, options, told):
    assert chat(*options, "one") == 2
    assert told in capsys.readouterr().err and not loaded


def test_a_name_that_is_not_to_be_kept(chat, capsys):
    chat("--session", "work", "one")
    assert "Not kept" not in capsys.readouterr().err
    assert chat("--session", "work", "--no-log", "two") == 0
    assert "Not kept in work" in capsys.readouterr().err
    assert branch("work") == ["one", "you said one"]


def test_a_number_that_is_none(chat, loaded, capsys):
    chat("--log", "one")
    assert chat("--session", "12", "two") == 2
    assert "There is no conversation 12." in capsys.readouterr().err


def test_a_damaged_store_ends_it_before_a_model_is_loaded(chat, loaded, store, capsys):
    store.parent.mkdir(parents=True)
    store.write_text("damaged")
    assert chat("-c", "one") == 5
    assert f"{store} is damaged" in capsys.readouterr().err and not loaded


def test_it_goes_on_with_its_own_model_and_settings(chat, loaded, script, monkeypatch):
    chat("--log", "-m", "its/own", "-s", "be brief", "--temperature", "0.5", "one")
    monkeypatch.setenv("GEMMA4_MODEL", "the/usual")
    chat("-c", "two")
    chat("-c", "three", "-m", "another", "--temperature", "0.25")
    assert loaded == ["its/own", "its/own", "another"]
    assert [asked.temperature for asked in script.asked] == [0.5, 0.5, 0.25]
    assert all(asked.messages[0]["content"] == "be brief" for asked in script.asked)
    with opened() as store:
        assert store.setup(1).model == "another"


def test_a_preset_counts_before_what_was_kept(chat, script, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "gemma4").mkdir()
    (tmp_path / "gemma4" / "config.toml").write_text(
        'seed = 1\nsystem = "of file"\n[preset.p]\nsystem = "of preset"\n'
    )
    chat("--log", "-s", "be brief", "--seed", "2", "one")
    chat("-c", "two")
    chat("-c", "three", "--preset", "p")
    systems = [asked.messages[0]["content"] for asked in script.asked]
    assert systems == ["be brief", "be brief", "of preset"]
    assert [asked.seed for asked in script.asked] == [2, 2, 2]


def test_its_tools_are_known_again(chat, script, tmp_path):
    tool = {"type": "function", "function": {"name": "look", "description": "d"}}
    (tmp_path / "tools.json").write_text(json.dumps([tool]))
    chat("--log", "--tools", str(tmp_path / "tools.json"), "one")
    chat("-c", "two")
    assert script.asked[1].tools == script.asked[0].tools != []


def test_on_a_terminal_its_end_is_shown(chat, capsys):
    assert chat("--log", "-i", lines=("one", "two", "three\nand more")) == 0
    capsys.readouterr()
    chat("-c", "-i", lines=("four",))
    assert capsys.readouterr().err.splitlines() == [
        "… 2 earlier messages …",
        "> two",
        "you said two",
        "> three",
        "> and more",
        "you said three",
        "and more",
    ]


def test_a_question_that_got_no_answer_waits_at_the_prompt(kept, script, capsys):
    def answer(messages: list[dict]) -> Iterator[Chunk]:
        killed.append(look_up(None))
        yield from chunks("answer")

    killed: list = []
    script.answer = answer
    converse(kept, Lines("one", "two"))
    again = Session(kept.chat, kept.screen, "scripted", 1.0)
    kept.chat.clear()
    put_back(killed[1], again, draft=True)
    assert again.draft == "two" and len(kept.chat.messages) == 2
    capsys.readouterr()
    put_back(killed[1], again, draft=False)
    assert len(kept.chat.messages) == 2
    assert capsys.readouterr().err == "Left out, since it got no answer: two\n"


def test_half_an_answer_is_part_of_it(kept, script):
    def answer(messages: list[dict]) -> Iterator[Chunk]:
        yield Chunk("Half.", token=1)
        killed.append(look_up(None))
        yield from chunks(" whole")

    killed: list = []
    script.answer = answer
    converse(kept, Lines("one"))
    kept.chat.clear()
    put_back(killed[0], kept, draft=True)
    assert [m["content"] for m in kept.chat.messages] == ["one", "Half."]
    assert not kept.draft


def test_branches_go_on_from_what_was_put_back(kept):
    converse(kept, Lines("one", "two"))
    kept.chat.clear()
    kept.keep()
    put_back(look_up(None), kept, draft=True)
    converse(kept, Lines("/edit three", "four"))
    assert branch()[::2] == ["one", "three", "four"]
    with opened() as store:
        assert store.count() == 1 and len(store.turns(1, all=True)) == 8


def test_files_are_read_again(seeing, here, store):
    seeing.keep()
    converse(seeing, Lines("/set image_tokens 70", "./a.png and ./d.wav what"))
    budget = seeing.chat.messages[0]["content"][0]["image"].text
    seeing.chat.clear()
    put_back(look_up(None), seeing, draft=True)
    asked = seeing.chat.messages[0]
    assert shapes(asked) == ["a.png", "d.wav", "and what"]
    assert asked["content"][0]["image"].text == budget
    assert seeing.chat.processor(seeing.chat.messages).media.audio


def test_a_file_that_is_not_what_it_was_is_left_out(seeing, here, store, capsys):
    seeing.keep()
    converse(seeing, Lines("./a.png ./b\\ c.png ./d.wav what"))
    (here / "a.png").write_bytes((here / "b c.png").read_bytes())
    (here / "d.wav").unlink()
    seeing.chat.clear()
    capsys.readouterr()
    put_back(look_up(None), seeing, draft=True)
    assert shapes(seeing.chat.messages[0]) == ["b c.png", "what"]
    assert capsys.readouterr().err.splitlines() == [
        f"Left out: {here}/a.png has changed since it was attached.",
        f"Left out: {here}/d.wav is not there any more.",
    ]
    with opened() as found:  # and is still known
        assert shapes(found.turns(1)[0].message)[0] == "a.png"


def test_a_picture_that_was_described_is_talked_about(
    seeing, script, here, store, monkeypatch
):
    model, processor = seeing.chat.model, seeing.chat.processor
    monkeypatch.setattr(loading, "load_to_chat", lambda *_: (model, processor))
    for more in (["--each"], ["--json"], []):
        app(["describe", "a.png", *more], standalone_mode=False)
    assert not store.exists()
    with monkeypatch.context() as piped:
        data = io.BytesIO((here / "b c.png").read_bytes())
        stdin = SimpleNamespace(isatty=lambda: False, buffer=data)
        piped.setattr("sys.stdin", stdin)
        app(["describe", "a.png", "-", "--log"], standalone_mode=False)
    app(["chat", "-c", "and this?"], standalone_mode=False)
    assert shapes(script.asked[-1].messages[0]) == [
        "a.png",
        "(image, not kept)\n",
        "Describe these images.",
    ]


def test_a_transcript_is_talked_about(listener, script, store, capsys):
    def prepare(*_: object) -> None:
        raise MediaError("talk.wav lasts 100 s")

    loading.load_to_chat("m")[1].prepare = prepare  # type: ignore[attr-defined]
    talk = listener.talk(Path("talk.wav"), 100)
    listen("talk.wav")
    assert not store.exists()
    listen("talk.wav", "--log")
    script.answer = lambda messages: chunks("about")
    app(["chat", "-c", "what about?"], standalone_mode=False)
    said = [m["content"] for m in script.asked[-1].messages]
    assert said[1].split() == talk.text.split() and said[2] == "what about?"
    assert "Left out: talk.wav: talk.wav lasts 100 s" in capsys.readouterr().err
    with opened() as found:
        assert shapes(found.turns(1)[0].message)[0] == "talk.wav"
