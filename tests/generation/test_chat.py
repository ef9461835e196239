"""Conversations from Python: what is kept, what is read, and what cannot be asked."""

import inspect
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image
from scripted import chunks
from turns import Author

from mlx_gemma4 import Chat, Chunk, generate, load, stream_generate
from mlx_gemma4.chat.calls import ToolCall
from mlx_gemma4.errors import ChatError, MediaError

NO_MODEL: Any = None  # the script stands in for it
PICTURE = Image.new("RGB", (40, 30), "red")
SOUND = (np.zeros(8000, np.float32), 16000)
CALLS = (ToolCall("time", {}), ToolCall("weather", {"city": "Rome"}))


def roles(messages: list[dict]) -> list[str]:
    return [message["role"] for message in messages]


def fail(messages: list[dict]) -> NoReturn:
    raise MemoryError


@pytest.fixture
def chat(media_processor, stand_in, script):
    """With a scripted model that sees and hears, and repeats what it is asked."""
    return Chat(stand_in, media_processor, system="Be brief.", seed=7, top_k=3)


def test_what_was_said_is_known(chat, script):
    assert chat.ask("one").text == "you said one"
    assert chat.ask("two").text == "you said two"
    assert roles(chat.messages) == ["user", "assistant"] * 2
    asked = script.asked[1]
    assert roles(asked.messages) == ["system", "user", "assistant", "user"]
    assert (asked.seed, asked.top_k, asked.temperature) == (8, 3, None)
    assert asked.prefix is script.asked[0].prefix


def test_another_answer_and_a_question_taken_back(chat, script):
    chat.ask("one")
    assert chat.again().text == "you said one"
    assert [each.seed for each in script.asked] == [7, 8]
    assert len(chat.messages) == 2
    assert chat.undo() == {"role": "user", "content": "one"}
    assert chat.messages == [] and chat.undo() is None


def test_an_answer_that_is_left_early_is_kept(chat):
    for chunk in chat.stream("one two three"):
        assert chunk.text == "you "
        break
    assert chat.messages[-1] == {"role": "assistant", "content": "you "}


def test_a_failed_turn_leaves_the_conversation(chat, script):
    chat.ask("one")
    before = list(chat.messages)
    script.answer = fail
    with pytest.raises(MemoryError):
        chat.ask("two")
    with pytest.raises(MediaError, match="no.png"):
        chat.ask("three", images="no.png")
    assert chat.messages == before


def test_files_go_before_the_text_and_are_read_once(chat, script, tmp_path):
    path = tmp_path / "a.png"
    PICTURE.save(path)
    chat.ask("what?", images=[str(path), PICTURE], audio=SOUND, videos=[[PICTURE] * 2])
    path.unlink()
    chat.ask("and?")
    content = script.asked[1].messages[1]["content"]
    kinds = ["image", "image", "audio", "video", "text"]
    assert [part["type"] for part in content] == kinds
    assert content[0]["path"] == str(path) and "path" not in content[1]
    frames = [len(part[part["type"]].attached) for part in content[:4]]
    assert frames == [1, 1, 1, 2]


def test_a_message_holds_its_own_files(chat, script):
    parts = [{"type": "text", "text": "this"}, {"type": "image", "image": PICTURE}]
    chat.ask({"role": "user", "content": parts})
    sent = script.asked[0].messages[1]["content"]
    assert sent[0] == parts[0] and len(sent[1]["image"].attached) == 1
    with pytest.raises(ChatError, match="holds its own"):
        chat.ask({"role": "user", "content": "x"}, images=PICTURE)


@pytest.mark.parametrize("nothing", [[], None, 5])
def test_nothing_is_no_message(chat, nothing):
    with pytest.raises(ChatError, match="must be a text, a message or several"):
        chat.ask(nothing)
    assert not chat.messages


def test_results_of_all_calls(chat, script):
    script.answer = lambda messages: [
        Chunk("", 1, tool_calls=CALLS, finish_reason="tool_calls")
    ]
    chat.ask("Rome, now?")
    ids = [call["id"] for call in chat.messages[-1]["tool_calls"]]
    assert chat.open_call()["id"] == ids[0]
    script.answer = lambda messages: chunks("Sunny.")
    results = [{"role": "tool", "tool_call_id": i, "content": "noon"} for i in ids]
    assert chat.ask(results).text == "Sunny."
    assert roles(chat.messages)[2:] == ["tool", "tool", "assistant"]
    assert chat.open_call() is None


def test_an_earlier_conversation_goes_on(chat, script, media_processor):
    chat.ask("one")
    later = Chat(NO_MODEL, media_processor, messages=chat.messages)
    later.ask("two")
    assert roles(script.asked[1].messages) == ["user", "assistant", "user"]
    assert len(chat.messages) == 2


def test_a_turn_reads_what_is_new(whole, monkeypatch):
    model, processor = load(whole)
    author = Author(monkeypatch)
    author.answer = processor.tokenizer.encode("Yes.<turn|>")
    chat = Chat(model, processor, max_tokens=8)
    chat.ask("one", images=PICTURE)
    stats = chat.ask("two").stats
    assert stats is not None
    # All but the question and what stands before and after it: 8 tokens at most.
    assert stats.prompt_tokens - stats.cached_tokens <= 2 + 8


def test_a_text_is_a_question(demo_folder):
    model, processor = load(demo_folder)
    asked = "What is the capital of France?"
    answer = generate(model, processor, asked, temperature=0)
    assert answer.text == "The capital of France is Paris."
    message = [{"role": "user", "content": asked}]
    assert generate(model, processor, message, temperature=0).tokens == answer.tokens


def test_options_can_be_seen():
    whole = inspect.signature(generate).parameters
    assert list(whole.values()) == list(
        inspect.signature(stream_generate).parameters.values()
    )
    asked = set(inspect.signature(Chat).parameters) - {"system"}
    inner = {"tokens", "begun", "plain", "prefix", "prefill_step", "progress"}
    assert set(whole) - asked == inner
