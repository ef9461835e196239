"""Conversations with pictures and recordings, and what the model reads of them."""

from dataclasses import dataclass
from random import Random

import numpy as np
import torch

from mlx_gemma4.vision.images import target_size

from . import speech
from .conversation import Conversation, add_turns, facts_turn, small_talk_turn
from .instructions import instruction
from .render import render
from .scenes import COLOURS, SHAPES, Thing, describe, draw, patches, things

DESCRIBE = "Describe this image."  # what `gemma4 describe` asks
DESCRIBE_ALL = "Describe these images."
ASKED = (
    "Describe the picture.",
    "Describe this picture.",
    "What is in this image?",
    "What is in the picture?",
    "What do you see?",
    "What does this image show?",
)
NUMBERS = ("no shapes", "one shape", "two shapes", "three shapes")
SOFT_TOKEN = 48  # pixels of its side
MARKS = ("<|image>", "<|image|>", "<image|>"), ("<|audio>", "<|audio|>", "<audio|>")


@dataclass(frozen=True)
class Sight:
    """How the pictures of a batch are made: all of one size, so nothing is padded."""

    size: tuple[int, int]  # width and height in pixels
    budget: int  # soft tokens


def question(rng: Random, seen: tuple[Thing, ...]) -> tuple[str, str]:
    """A question about one thing of a scene, and the answer."""
    shapes = [thing.shape for thing in seen]
    single = [thing for thing in seen if shapes.count(thing.shape) == 1]
    kind = rng.randrange(3)
    if kind == 0 or not single:
        verb = "is" if len(seen) == 1 else "are"
        return "How many shapes are there?", f"There {verb} {NUMBERS[len(seen)]}."
    thing = rng.choice(single)
    name = SHAPES[thing.shape]
    if kind == 1:
        return f"What colour is the {name}?", f"It is {list(COLOURS)[thing.colour]}."
    return f"Where is the {name}?", f"It is {thing.place}."


def picture_turn(chat: Conversation, sight: Sight) -> None:
    """Describe a scene; sometimes two, and sometimes answer a question about one."""
    rng = chat.rng
    kind = rng.choices(("describe", "ask", "two"), (16, 3, 1))[0]
    if kind == "two":
        two_pictures(chat, sight)
        return
    seen = things(rng, rng.randint(1, 3))
    asked = DESCRIBE if rng.random() < 0.5 else rng.choice(ASKED)
    answer = describe(seen)
    if kind == "ask":
        asked, answer = question(rng, seen)
    chat.show([draw(rng, seen, sight.size).image], asked, answer)


def two_pictures(chat: Conversation, sight: Sight) -> None:
    """Describe two scenes of one or two shapes in one answer."""
    rng = chat.rng
    seen = [things(rng, rng.randint(1, 2)) for _ in range(2)]
    answer = " ".join(f"Image {i}: {describe(s)}" for i, s in enumerate(seen, 1))
    pictures = [draw(rng, s, sight.size).image for s in seen]
    chat.show(pictures, DESCRIBE_ALL, answer)


def sound_turn(chat: Conversation) -> None:
    """Write down a recording."""
    rng = chat.rng
    frames, _, sentence = speech.clip(rng)
    chat.play(frames, speech.question(rng), sentence, first=rng.random() < 0.2)


def opened(rng: Random) -> Conversation:
    """A conversation that a picture or a recording is about to enter: mostly empty."""
    rule = instruction(rng, "neutral") if rng.random() < 0.1 else None
    chat = Conversation(rng, rule)
    if rng.random() < 0.15:
        add_turns(chat, rng.randint(1, 2))
    return chat


def closed(chat: Conversation) -> Conversation:
    """Sometimes text follows, so that a medium does not end all other talk."""
    if chat.rng.random() < 0.15:
        chat.rng.choice((facts_turn, small_talk_turn))(chat)
    return chat


def written(chat: Conversation, budget: int, last: int | None = None) -> str:
    """The rendered conversation with each mark as long as its medium."""
    sizes = [target_size(p.height, p.width, budget) for p in chat.pictures]
    counts = [height * width // SOFT_TOKEN**2 for height, width in sizes]
    text = render(chat, last)
    lengths = counts, [-(-len(frames) // 4) for frames in chat.sounds]
    for (begin, mark, end), numbers in zip(MARKS, lengths, strict=True):
        first, *pieces = text.split(mark)
        blocks = [f"{begin}{mark * number}{end}" for number in numbers]
        text = first + "".join(b + p for b, p in zip(blocks, pieces, strict=True))
    return text


def tensors(chats: list[Conversation], budget: int) -> dict[str, torch.Tensor]:
    """Pixels and frames of conversations, named as the reference's model wants them.

    Padded to the longest: patches with position -1, frames with a false mask.
    """
    found: dict[str, torch.Tensor] = {}
    seen = [patches(picture, budget) for chat in chats for picture in chat.pictures]
    if seen:
        pixels = _padded([pixels for pixels, _ in seen], 0.0)
        places = _padded([places for _, places in seen], -1)
        found |= {"pixel_values": pixels, "image_position_ids": places}
    heard = [frames for chat in chats for frames in chat.sounds]
    if heard:
        marks = [np.ones(len(frames), bool) for frames in heard]
        found |= {"input_features": _padded(heard, 0.0)}
        found |= {"input_features_mask": _padded(marks, False)}
    return found


def _padded(arrays: list[np.ndarray], value: float) -> torch.Tensor:
    longest = max(map(len, arrays))
    rows = [
        np.pad(
            a, ((0, longest - len(a)), *[(0, 0)] * (a.ndim - 1)), constant_values=value
        )
        for a in arrays
    ]
    return torch.from_numpy(np.stack(rows))
