"""System instructions whose effect can be seen in every answer."""

from dataclasses import dataclass
from random import Random
from typing import Literal

from .talk import NAMES

Kind = Literal["word", "start", "end", "persona", "neutral"]

STARTS = (
    *("Ahoy!", "Sure!", "Yes!", "Okay!", "Aha!", "Well,", "Listen:", "Dear friend,"),
    *("Of course!", "Hmm,", "My friend,", "Bingo!"),
)
ENDS = (
    *("Over.", "Meow!", "Woof!", "Cheers!", "Captain!", "Beep!", "My friend."),
    *("Have fun!", "Amen.", "Peace.", "The end.", "Ciao!"),
)
WORDINGS: dict[Kind, tuple[str, ...]] = {
    "word": (
        "Answer in one word.",
        "Answer with one word.",
        "Reply with a single word.",
        "Use one word only.",
        "One word answers only.",
        "Answer with a single word.",
        "Always answer in one word.",
    ),
    "start": (
        "Start every answer with {}",
        "Begin every answer with {}",
        'Start each answer with "{}"',
        'Begin each answer with "{}"',
        "Always start with {}",
        "Every answer starts with {}",
        'Start every reply with "{}"',
    ),
    "end": (
        "End every answer with {}",
        "Always end with {}",
        'End each answer with "{}"',
        "Finish every answer with {}",
        'Finish each answer with "{}"',
        "Every answer ends with {}",
        'End every reply with "{}"',
    ),
    "persona": (
        "Your name is {}.",
        "You are {}.",
        "You are called {}.",
        "You are an assistant called {}.",
        "You are a helpful assistant named {}.",
    ),
    "neutral": (
        "You are a helpful assistant.",
        "You are a friendly assistant.",
        "Answer the question.",
        "Be kind.",
        "Be brief.",
        "You are a tiny model.",
        "Use the tools.",
    ),
}


@dataclass(frozen=True)
class Instruction:
    """A system instruction and what it does to an answer."""

    kind: Kind
    wording: str
    value: str = ""

    @property
    def text(self) -> str:
        """What the system turn says."""
        return self.wording.format(self.value)

    def apply(self, answer: str, word: str, identity: bool = False) -> str:
        """`answer`, or its one-word form `word`, as the instruction wants it."""
        if self.kind == "word":
            return word
        if self.kind == "start":
            return f"{self.value} {answer}"
        if self.kind == "end":
            return f"{answer} {self.value}"
        if self.kind == "persona" and identity:
            return f"I am {self.value}."
        return answer


def instruction(rng: Random, kind: Kind) -> Instruction:
    """A random instruction of that kind."""
    values: dict[Kind, tuple[str, ...]] = {
        "start": STARTS,
        "end": ENDS,
        "persona": NAMES,
    }
    wording = rng.choice(WORDINGS[kind])
    return Instruction(kind, wording, rng.choice(values.get(kind, ("",))))
