"""A turn reads only what is new in it, and answers as if it had read everything."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import mlx.core as mx
import pytest
from google_templates import google_template
from turns import CLOSED_THOUGHT, END, MODEL, Author, Chat, tiny_model, with_template

from mlx_gemma4 import load
from mlx_gemma4.config import Config
from mlx_gemma4.decoding.prefix import PINS

WINDOW, SLACK = 8, 24
LONG = "The quick brown fox jumps over the lazy dog, then does it again."
USER = "\n<|turn>user\n"
THOUGHT = f"<|channel>thought\n{LONG}\n<channel|>"
CALL = '<|tool_call>call:weather{city:<|"|>Rome<|"|>}<tool_call|><|tool_response>'
SEE = f"Let me see.{CALL}"
RESULT = {"role": "tool", "tool_call_id": "c0", "content": "sunny, " * 12}
SUNNY = f'response:weather{{value:<|"|>{RESULT["content"]}<|"|>}}<tool_response|>'
QUESTIONS = [f"Question {n}, what comes next?" for n in range(10)]

MakeChat = Callable[..., Chat]


@pytest.fixture
def new_chat(demo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> MakeChat:
    """A chat with a tiny random model; its answers are the test's, if `written`."""
    config = Config.from_file(demo_folder / "config.json")
    small = (demo_folder / "chat_template.jinja").read_text()

    def new(
        variant: str = "E2B",
        template: str = "small",
        slack: int = SLACK,
        written: bool = True,
    ) -> Chat:
        own = {"small": small, "large": small + CLOSED_THOUGHT}
        processor = with_template(demo_folder, config, own.get(template, template))
        model = tiny_model(variant, config, slack, monkeypatch)
        return Chat(model, processor, Author(monkeypatch) if written else None)

    return new


@pytest.fixture
def demo_chat(demo_folder: Path) -> Chat:
    """A chat with the demo model, which answers for itself."""
    return Chat(*load(demo_folder, dtype=mx.float32))


def spelled(chat: Chat, text: str) -> list[int]:
    """`text` letter by letter, as no tokenizer would split it, and the stop token."""
    encode = chat.processor.tokenizer.encode
    return [*(token for letter in text for token in encode(letter)), *encode(END)]


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["E2B", "26B-A4B"])
def test_each_of_ten_turns_reads_its_new_tokens(
    new_chat: MakeChat, variant: str
) -> None:
    chat = new_chat(variant)
    for n, question in enumerate(QUESTIONS):
        answer = spelled(chat, LONG[:30]) if n % 2 else LONG + END
        chat.ask(question, answer)
        before = USER if n else "<bos><|turn>user\n"
        assert chat.read == chat.count(before + question + MODEL)
    assert len(chat.prefix.tokens) > 30 * WINDOW


@pytest.mark.slow
def test_ten_turns_of_the_demo_model(demo_chat: Chat) -> None:
    """Its own answers, greedy, against those of a call without a prefix."""
    plain = False
    for question in QUESTIONS:
        response = demo_chat.ask(question, most=16)
        if plain:
            assert demo_chat.read == demo_chat.count(USER + question + MODEL)
        stop = demo_chat.processor.generation.stop_tokens
        plain = response.tokens[-1] in stop and response.text.strip() == response.text
    assert len(demo_chat.prefix.tokens) > 2 * 64


@pytest.mark.slow
def test_an_answer_cut_off_by_its_length(new_chat: MakeChat) -> None:
    """Its last token has not been through the model and is read with the next turn."""
    chat = new_chat()
    chat.ask("Tell me more.", LONG, most=20)
    chat.ask("Go on.", LONG + END)
    assert chat.read == 1 + chat.count(END + USER + "Go on." + MODEL)


@pytest.mark.slow
@pytest.mark.parametrize("template", ["large", "google"])
def test_an_empty_thought_moves_only_the_last_answer(
    new_chat: MakeChat, template: str
) -> None:
    chat = new_chat(
        template=google_template("large") if template == "google" else template
    )
    for n, question in enumerate(QUESTIONS[:3]):
        chat.ask(question, LONG + END)
        if n:
            new = LONG + END + USER + question + MODEL
            assert chat.read == chat.count(new + "<|channel>thought\n<channel|>")


@pytest.mark.slow
@pytest.mark.parametrize("template", ["small", "large"])
def test_with_google_s_templates_thoughts_move_the_answer(
    new_chat: MakeChat, template: str
) -> None:
    chat = new_chat(template=google_template(template))
    drops_thoughts(chat)


@pytest.mark.slow
def test_a_dropped_thought_moves_only_the_last_answer(new_chat: MakeChat) -> None:
    drops_thoughts(new_chat())


def drops_thoughts(chat: Chat) -> None:
    chat.thinking = True
    for n, question in enumerate(QUESTIONS[:3]):
        response = chat.ask(question, f"{THOUGHT}Answer {n}.{END}")
        assert response.thought == LONG
        if n:
            new = f"Answer {n - 1}.{END}{USER}{question}{MODEL}"
            assert chat.read == chat.count(new)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("template", "thinking"),
    [
        ("small", False),
        ("large", False),
        pytest.param("small", True, marks=pytest.mark.slow),
    ],
)
def test_a_regenerated_answer_reads_one_token(
    new_chat: MakeChat, template: str, thinking: bool
) -> None:
    chat = new_chat(template=template)
    chat.thinking = thinking
    for question in QUESTIONS[:2]:
        chat.ask(question, THOUGHT * thinking + LONG + END)
        for _ in range(2):
            chat.messages.pop()
            chat.answer(THOUGHT * thinking + LONG + END)
            assert chat.read == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "thinking", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_an_edited_question_is_read_from_the_edit_on(
    new_chat: MakeChat, thinking: bool
) -> None:
    chat = new_chat()
    chat.thinking = thinking
    for question in QUESTIONS[:3]:
        chat.ask(question, THOUGHT * thinking + LONG + END)
    for last in ("comes before?", "follows?", "comes last?"):
        del chat.messages[-2:]
        chat.ask(f"Question 2, what {last}", THOUGHT * thinking + LONG + END)
        assert chat.read <= chat.count(" " + last + MODEL)


@pytest.mark.slow
@pytest.mark.parametrize("thinking", [False, True])
def test_an_edit_of_a_long_question(new_chat: MakeChat, thinking: bool) -> None:
    """Longer than what can be taken back: it is read again, and nothing before it."""
    chat = new_chat()
    chat.thinking = thinking
    for question in (LONG, LONG + " Really?"):
        chat.ask(question, THOUGHT * thinking + "Yes." + END)
    del chat.messages[-2:]
    chat.ask(LONG + " Truly?", LONG + END)
    assert chat.read <= chat.count(
        "Yes." * thinking + END + USER + LONG + " Truly?" + MODEL
    )


@pytest.mark.slow
def test_a_question_taken_back(new_chat: MakeChat) -> None:
    """The last turn is undone and another question asked in its place."""
    chat = new_chat()
    for question in QUESTIONS[:4]:
        chat.ask(question, LONG + END)
    del chat.messages[-2:]
    chat.ask("Something else: who are you?", LONG + END)
    assert chat.read == chat.count("Something else: who are you?" + MODEL)


@pytest.mark.slow
def test_two_turns_taken_back(new_chat: MakeChat) -> None:
    chat = new_chat()
    for question in QUESTIONS[:4]:
        chat.ask(question, LONG + END)
    del chat.messages[-4:]
    chat.ask("Something else: who are you?", LONG + END)
    assert chat.read == chat.count("Something else: who are you?" + MODEL)


@pytest.mark.slow
def test_an_early_edit_reads_everything_behind_it(new_chat: MakeChat) -> None:
    chat = new_chat()
    for question in QUESTIONS[:4]:
        chat.ask(question, LONG + END)
    chat.messages[0]["content"] = "Question 0, what came first?"
    chat.ask("And now?", LONG + END)
    assert chat.read > 3 * chat.count(LONG)
    chat.ask("And now?", LONG + END)
    assert chat.read == chat.count(USER + "And now?" + MODEL)


@pytest.mark.slow
@pytest.mark.parametrize(
    "thinking", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_a_tool_loop_within_a_turn(new_chat: MakeChat, thinking: bool) -> None:
    chat = new_chat()
    chat.thinking = thinking
    start = 0
    for question in QUESTIONS[:2]:
        called = chat.ask(question, THOUGHT * thinking + CALL)
        if thinking and start:  # the turn's thoughts are gone, its beginning is not
            assert chat.stats.cached_tokens == start
        start = chat.stats.prompt_tokens
        for _ in range(3):
            assert [call.name for call in called.tool_calls] == ["weather"]
            chat.messages.append(RESULT)
            called = chat.answer("Hm.\n<channel|>" * thinking + CALL)
            assert called.thought == "Hm." * thinking
        chat.messages.append(RESULT)
        chat.answer(LONG + END)
        opened = "<|channel>thought\n" * thinking
        assert chat.read == chat.count(SUNNY + opened)
        chat.messages.pop()
        chat.answer(LONG + END)  # once more
        assert chat.read == 1


@pytest.mark.parametrize("google", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "thinking", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_words_before_a_call_are_read_where_they_were_written(
    new_chat: MakeChat, thinking: bool, google: bool
) -> None:
    chat = new_chat(template=google_template("small") if google else "small")
    chat.thinking = thinking
    called = chat.ask("Rome?", "<|channel>thought\nHm.\n<channel|>" * thinking + SEE)
    assert called.text == "Let me see." and called.tool_calls
    chat.messages.append(RESULT)
    chat.answer("Sunny." + END)
    assert chat.read == chat.count(SUNNY + "<|channel>thought\n" * thinking)


@pytest.mark.slow
def test_an_interrupted_answer_stays(new_chat: MakeChat) -> None:
    chat = new_chat()
    for question in QUESTIONS[:3]:
        chat.ask(question, LONG + END)
        response = chat.ask("Go on.", LONG + END, chunks=20)
        assert response.stats is None
        chat.ask("I meant something else.", LONG + END)
        assert chat.read == chat.count(END + USER + "I meant something else." + MODEL)


@dataclass
class Walk:
    """Whatever people do to a conversation, in random order; answers are the model's.

    `Chat` compares every one with a fresh reading.
    """

    chat: Chat
    rng: Random
    done: Counter[str] = field(default_factory=Counter)

    def ask(self) -> None:
        text = self.rng.choice([*QUESTIONS, LONG])
        self.chat.ask(text, most=self.rng.choice([1, 5, 12]))

    def interrupt(self) -> None:
        self.chat.ask(
            self.rng.choice(QUESTIONS), most=12, chunks=self.rng.randrange(1, 9)
        )

    def again(self) -> None:
        self._cut(self._last("user") + 1)
        self.chat.answer(most=12)

    def edit_last(self) -> None:
        self._edit(self._last("user"))

    def edit_any(self) -> None:
        self._edit(self.rng.choice(self._all("user")))

    def undo(self) -> None:
        self._cut(self._last("user"))
        self.ask()

    def tool(self) -> None:
        call = {"name": "weather", "arguments": {"city": "Rome"}}
        entry = {"type": "function", "id": "c0", "function": call}
        answer = self.chat.messages[-1]
        answer["tool_calls"] = answer.get("tool_calls") or [entry]
        calls = answer["tool_calls"]
        self.chat.messages += [{**RESULT, "tool_call_id": c["id"]} for c in calls]
        self.chat.answer(most=12)

    def toggle_thinking(self) -> None:
        self.chat.thinking = not self.chat.thinking
        self.ask()

    def _edit(self, at: int) -> None:
        content = self.chat.messages[at]["content"]
        keep = self.rng.randrange(len(content))
        self._cut(at)
        self.chat.ask(content[:keep] + " something else", most=12)

    def _all(self, role: str) -> list[int]:
        messages = enumerate(self.chat.messages)
        return [i for i, message in messages if message["role"] == role]

    def _last(self, role: str) -> int:
        return self._all(role)[-1]

    def _cut(self, at: int) -> None:
        del self.chat.messages[at:]

    def run(self, steps: int) -> None:
        self.ask()
        actions = [self.ask, self.interrupt, self.again, self.edit_last, self.edit_any]
        actions += [self.undo, self.tool, self.toggle_thinking]
        for _ in range(steps):
            action = self.rng.choice(actions)
            before = self.chat.stats
            action()
            self.done[action.__name__] += 1
            fresh = self.chat.stats is not before
            self.done["reused"] += fresh and self.chat.stats.cached_tokens > 5
            assert len(self.chat.prefix._pins) <= PINS


@pytest.mark.slow
def test_random_conversations(new_chat: MakeChat) -> None:
    done = Counter[str]()
    for seed in range(4):
        rng = Random(seed)
        template, slack = rng.choice(["small", "large"]), rng.choice([0, 3, 16])
        walk = Walk(new_chat("demo", template, slack, written=False), rng)
        walk.run(steps=8)
        done += walk.done
    assert len(done) == 9 and done["reused"] > 10, done
