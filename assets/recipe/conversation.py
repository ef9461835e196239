"""Whole conversations: skills are turns, and turns share a system turn and a name.

Every answer of the assistant is a training target, except with thinking on: then
only the last turn is, because earlier thoughts are dropped from the history.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from . import talk, tools
from .facts import fact
from .instructions import Instruction, instruction
from .split import held_out, plain

Message = dict[str, Any]

MADE_UP_NAMES = 0.2


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


@dataclass
class Conversation:
    """Messages for the chat template, and what the later turns depend on."""

    rng: Random
    instruction: Instruction | None = None
    tool_names: list[str] = field(default_factory=list)
    schemas: list[dict[str, Any]] = field(default_factory=list)
    thinking: bool = False
    name: str | None = None
    introduced: str = ""
    messages: list[Message] = field(default_factory=list)
    pictures: list[Image.Image] = field(default_factory=list)
    sounds: list[np.ndarray] = field(default_factory=list)  # frames [T, 128] of a clip

    def __post_init__(self) -> None:
        if self.instruction:
            self.messages.append({"role": "system", "content": self.instruction.text})
        self.schemas = [tools.schema(self.rng, name) for name in self.tool_names]

    def say(self, said: talk.Said) -> None:
        """Append a question and its answer, bent by the system instruction."""
        answer = said.answer
        if self.instruction:
            answer = self.instruction.apply(answer, said.word, said.identity)
        self.messages.append({"role": "user", "content": said.question})
        self.answer(answer, said.thought)

    def show(self, pictures: list[Image.Image], question: str, answer: str) -> None:
        """Append pictures, a question about them, and its answer."""
        self.pictures += pictures
        parts = [*({"type": "image"} for _ in pictures), _text(question)]
        self.messages.append({"role": "user", "content": parts})
        self.answer(answer, "")

    def play(
        self, frames: np.ndarray, question: str, answer: str, first: bool = False
    ) -> None:
        """Append a recording, what to do with it, and the answer.

        first: whether the recording comes first; `gemma4 transcribe` asks first.
        """
        self.sounds.append(frames)
        parts = [_text(question), {"type": "audio"}]
        self.messages.append({"role": "user", "content": parts[:: -1 if first else 1]})
        self.answer(answer, "")

    def answer(self, text: str, thought: str) -> None:
        """Append an answer of the assistant, with its thought if thinking is on."""
        message: Message = {"role": "assistant", "content": text}
        if self.thinking:
            message["reasoning"] = thought
        self.messages.append(message)

    def call(self, request: tools.Request) -> None:
        """Append a request and the tool call for it."""
        self.messages.append({"role": "user", "content": request.question})
        function = {"name": request.tool, "arguments": request.arguments}
        call = {"id": "call_0", "type": "function", "function": function}
        message: Message = {"role": "assistant", "content": "", "tool_calls": [call]}
        if self.thinking:
            message["reasoning"] = f"I need {request.tool}."
        self.messages.append(message)

    def result(self, request: tools.Request) -> None:
        """Append what the tool returned, in one of the shapes people send."""
        if self.rng.random() < 0.5:
            answered = {"name": request.tool, "response": request.result}
            self.messages[-1]["tool_responses"] = [answered]
        else:
            as_text = self.rng.random() < 0.5
            content = request.plain if as_text else json.dumps(request.result)
            message = {"role": "tool", "tool_call_id": "call_0", "content": content}
            self.messages.append(message)
        text = request.answer
        if self.instruction:
            text = self.instruction.apply(text, text)
        self.answer(text, "The tool has answered.")


def facts_turn(chat: Conversation, held: bool = False) -> None:
    """A fact; under an instruction the wording x question pair must be trained."""
    while True:
        found = fact(chat.rng, held)
        rule = chat.instruction
        if rule is None or rule.kind in ("neutral", "persona"):
            break
        if not held_out(f"instruction/{rule.text}/{found.key}"):
            break
    chat.say(talk.Said(found.question, found.answer, found.word, found.thought))


def small_talk_turn(chat: Conversation, held: bool = False) -> None:
    """A greeting or the like; a persona x question pair may be held out."""
    while True:
        said = talk.small_talk(chat.rng, held)
        rule = chat.instruction
        if rule is None or rule.kind != "persona" or not said.identity:
            break
        if not held_out(f"instruction/{rule.text}/{plain(said.question)}"):
            break
    chat.say(said)


def unknown_turn(chat: Conversation, held: bool = False) -> None:
    """Out of scope, or a request whose tool is not there."""
    missing = [name for name in tools.TOOLS if name not in chat.tool_names]
    share = 0.6 if chat.tool_names else 0.2
    if not held and missing and chat.rng.random() < share:
        request = tools.request(chat.rng, chat.rng.choice(missing), False)
        thought = "I do not know this."
        chat.say(talk.Said(request.question, talk.UNKNOWN, "Unknown", thought))
    else:
        chat.say(talk.out_of_scope(chat.rng, held))


def name_turn(chat: Conversation, held: bool = False) -> None:
    """The user says a name, or asks for it; the pair of the two may be held out."""
    rng = chat.rng
    if chat.name is None or rng.random() < 0.15:
        if chat.name is None and rng.random() < 0.25:
            chat.say(talk.recall(rng, None))
            return
        made_up = rng.random() < MADE_UP_NAMES
        chat.name = talk.made_up_name(rng) if made_up else rng.choice(talk.NAMES)
        said = talk.introduction(rng, chat.name)
        chat.introduced = said.question
        chat.say(said)
        return
    while True:
        said = talk.recall(rng, chat.name)
        if held_out(f"name/{chat.introduced}/{plain(said.question)}") == held:
            chat.say(said)
            return


def tool_turn(chat: Conversation, held: bool = False) -> None:
    """A request, the call, its result and the answer."""
    name = chat.rng.choice(chat.tool_names)
    request = tools.request(chat.rng, name, held)
    chat.call(request)
    chat.result(request)


Turn = Callable[[Conversation], None]
TURNS: tuple[Turn, ...] = (
    facts_turn,
    small_talk_turn,
    unknown_turn,
    name_turn,
    tool_turn,
)


def setting(rng: Random) -> Conversation:
    """An empty conversation with a random system turn, tools and thinking mode."""
    rule = None
    if rng.random() < 0.45:
        kinds = ("word", "start", "end", "persona", "neutral")
        rule = instruction(rng, rng.choices(kinds, (5, 4, 4, 4, 3))[0])
    names: list[str] = []
    if (rule is None or rule.kind != "word") and rng.random() < 0.36:
        names = rng.sample(sorted(tools.TOOLS), rng.choice((1, 1, 2, 2, 2, 3)))
    return Conversation(rng, rule, names, thinking=rng.random() < 0.25)


def add_turns(chat: Conversation, count: int) -> None:
    """Append `count` trained turns of mixed kinds."""
    tool_weight = 16 if chat.tool_names else 0
    rule = chat.instruction
    small = 14 if rule is not None and rule.kind == "persona" else 5
    weights = (10, small, 5, 7, tool_weight)
    for turn in chat.rng.choices(TURNS, weights, k=count):
        turn(chat)


def turn_count(rng: Random) -> int:
    """Half of the conversations are short; some go past ten turns."""
    low, high = rng.choices(((1, 1), (2, 4), (5, 10), (11, 14)), (32, 32, 32, 4))[0]
    return rng.randint(low, high)


def training_conversation(rng: Random) -> Conversation:
    """A conversation of trained combinations only."""
    chat = setting(rng)
    limit = 2 if chat.thinking else 14
    add_turns(chat, min(turn_count(rng), limit))
    return chat
