"""Held-out conversations, one function per skill; the last answer is examined.

Pictures and recordings are drawn afresh, and nothing else is held out of their turns.

The turns before it are trained combinations, so a skill is met at any depth.
"""

from collections.abc import Callable
from functools import partial
from random import Random

from mlx_gemma4.recordings.transcribe import transcription_prompt

from . import media, scenes, speech, talk, tools
from .conversation import (
    Conversation,
    add_turns,
    facts_turn,
    setting,
    small_talk_turn,
    unknown_turn,
)
from .facts import fact
from .instructions import instruction
from .shape import SOFT_TOKENS
from .split import held_out, plain

MAX_CONTEXT = 6


def _context(rng: Random, chat: Conversation) -> None:
    add_turns(chat, rng.choice((0, 0, rng.randint(1, MAX_CONTEXT))))


def _plain(rng: Random) -> Conversation:
    chat = setting(rng)
    while chat.thinking or (chat.instruction and chat.instruction.kind != "neutral"):
        chat = setting(rng)
    _context(rng, chat)
    return chat


def facts(rng: Random) -> Conversation:
    """A held-out phrasing x entity pair."""
    chat = _plain(rng)
    facts_turn(chat, held=True)
    return chat


def small_talk(rng: Random) -> Conversation:
    """A held-out opening x question pair."""
    chat = _plain(rng)
    small_talk_turn(chat, held=True)
    return chat


def out_of_scope(rng: Random) -> Conversation:
    """A held-out form x topic pair that the model must decline."""
    chat = _plain(rng)
    unknown_turn(chat, held=True)
    return chat


def missing_tool(rng: Random) -> Conversation:
    """Tools are declared, but not the one that the user needs."""
    names = rng.sample(sorted(tools.TOOLS), rng.choice((1, 2, 3)))
    chat = Conversation(rng, None, names)
    missing = rng.choice([name for name in tools.TOOLS if name not in names])
    request = tools.request(rng, missing, True)
    chat.say(talk.Said(request.question, talk.UNKNOWN, "Unknown", ""))
    return chat


def obey(rng: Random) -> Conversation:
    """A held-out pair of an instruction's text and a question."""
    while True:
        rule = instruction(rng, rng.choice(("word", "start", "end", "persona")))
        if rule.kind == "persona":
            said = talk.small_talk(rng, False)
            key = plain(said.question)
            if not said.identity:
                continue
        else:
            found = fact(rng, False)
            said = talk.Said(found.question, found.answer, found.word, found.thought)
            key = found.key
        if held_out(f"instruction/{rule.text}/{key}"):
            break
    chat = Conversation(rng, rule)
    _context(rng, chat)
    chat.say(said)
    return chat


def _tool_chat(rng: Random, thinking: bool = False) -> tuple[Conversation, str]:
    names = rng.sample(sorted(tools.TOOLS), rng.choice((1, 2, 2, 3)))
    chat = Conversation(rng, None, names, thinking=thinking)
    if not thinking:
        _context(rng, chat)
    return chat, rng.choice(names)


def tool_call(rng: Random) -> Conversation:
    """A call with held-out arguments."""
    chat, name = _tool_chat(rng)
    chat.call(tools.request(rng, name, True))
    return chat


def tool_answer(rng: Random) -> Conversation:
    """The answer after the result of a call with held-out arguments."""
    chat, name = _tool_chat(rng)
    request = tools.request(rng, name, True)
    chat.call(request)
    chat.result(request)
    return chat


def _name(rng: Random, made_up: bool) -> Conversation:
    while True:
        name = talk.made_up_name(rng) if made_up else rng.choice(talk.NAMES)
        told, asked = talk.introduction(rng, name), talk.recall(rng, name)
        if held_out(f"name/{told.question}/{plain(asked.question)}"):
            break
    chat = Conversation(rng)
    chat.say(told)
    chat.name, chat.introduced = name, told.question
    for _ in range(rng.randint(0, MAX_CONTEXT)):
        rng.choice((facts_turn, facts_turn, small_talk_turn, unknown_turn))(chat)
    chat.say(asked)
    return chat


def name(rng: Random) -> Conversation:
    """A held-out introduction x recall pair, with up to six turns between."""
    return _name(rng, made_up=False)


def new_name(rng: Random) -> Conversation:
    """The same with a made-up name."""
    return _name(rng, made_up=True)


def thinking(rng: Random) -> Conversation:
    """Thought and answer of a held-out fact, small talk, refusal or tool call."""
    kind = rng.randrange(4)
    if kind == 3:
        chat, tool = _tool_chat(rng, thinking=True)
        chat.call(tools.request(rng, tool, True))
        return chat
    chat = Conversation(rng, thinking=True)
    (facts_turn, small_talk_turn, unknown_turn)[kind](chat, held=True)
    return chat


def _picture(rng: Random, held: bool) -> Conversation:
    chat = Conversation(rng)
    size = rng.choice(scenes.SIZES)
    seen = scenes.things(rng, rng.randint(1, 3), held)
    picture = scenes.draw(rng, seen, size).image
    chat.show([picture], media.DESCRIBE, scenes.describe(seen))
    return chat


def fresh_scene(rng: Random) -> Conversation:
    """A new picture of trained triples."""
    return _picture(rng, held=False)


def held_scene(rng: Random) -> Conversation:
    """A picture with a (shape, colour, cell) triple that was never trained."""
    return _picture(rng, held=True)


def late_scene(rng: Random) -> Conversation:
    """The same, after one or two turns of text."""
    chat = Conversation(rng)
    add_turns(chat, rng.choice((1, 2)))
    shown = _picture(rng, held=True)
    chat.show(shown.pictures, media.DESCRIBE, str(shown.messages[-1]["content"]))
    return chat


def scene_question(rng: Random) -> Conversation:
    """A question about a new picture: how many, which colour, where."""
    chat = Conversation(rng)
    seen = scenes.things(rng, rng.randint(1, 3))
    picture = scenes.draw(rng, seen, rng.choice(scenes.SIZES)).image
    chat.show([picture], *media.question(rng, seen))
    return chat


def two_scenes(rng: Random) -> Conversation:
    """Two new pictures at once, of one or two shapes each."""
    chat = Conversation(rng)
    media.two_pictures(chat, media.Sight(rng.choice(scenes.SIZES), SOFT_TOKENS))
    return chat


SEEING: dict[str, Callable[[Random], Conversation]] = {
    "picture, fresh": fresh_scene,
    "picture, held-out triple": held_scene,
    "picture, held-out triple, later turn": late_scene,
    "picture, question": scene_question,
    "two pictures": two_scenes,
}


def _recording(rng: Random, part: str, within: bool = True) -> Conversation:
    """A recording within the demo's limit, or one beyond it."""
    chat = Conversation(rng)
    spoken = speech.recording(rng, part)
    while (len(spoken.samples) <= speech.LIMIT * speech.RATE) != within:
        spoken = speech.recording(rng, part)
    features, _ = speech.frames(spoken.samples)
    chat.play(features, transcription_prompt(), spoken.sentence)
    return chat


HEARING: dict[str, Callable[[Random], Conversation]] = {
    f"recording, held-out {part}": partial(_recording, part=part)
    for part in speech.PARTS
}
HEARING["recording, beyond the limit"] = partial(
    _recording, part="voices", within=False
)
SKILLS: dict[str, Callable[[Random], Conversation]] = {
    "facts": facts,
    "small talk": small_talk,
    "out of scope": out_of_scope,
    "missing tool": missing_tool,
    "system instruction": obey,
    "tool call": tool_call,
    "tool answer": tool_answer,
    "name": name,
    "made-up name": new_name,
    "thinking": thinking,
}
