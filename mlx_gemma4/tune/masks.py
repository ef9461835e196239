"""Which tokens of an example are learned: those that the model itself would say.

They are found in the token ids, between `<|turn>model\\n` and `<turn|>`, never by the
length of a shorter rendering: a template may render a prompt otherwise than the same
conversation with its answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..config import Config
from ..errors import DataError
from ..prompt.processor import Processor

TURN, END = "<|turn>", "<turn|>"
CALLED, ANSWERED = "<|tool_response>", "<tool_response|>"
EMPTY_THOUGHT = "<|channel>thought\n<channel|>"


@dataclass(frozen=True)
class Marks:
    """Token ids by which a model's turn is recognised."""

    opening: tuple[int, ...]  # <|turn>model\n
    end: int
    empty_thought: tuple[int, ...]
    called: int | None
    answered: int | None
    media: frozenset[int]

    @classmethod
    def of(cls, processor: Processor) -> "Marks":
        """Raises DataError for a tokenizer without Gemma 4's turns."""
        tokenizer = processor.tokenizer
        end = tokenizer.token_id(END)
        if end is None or tokenizer.token_id(TURN) is None:
            raise DataError(
                f"This checkpoint's tokenizer has no {TURN}: use an instruction-tuned "
                "model (…-it), or train on text."
            )
        return cls(
            tuple(tokenizer.encode(f"{TURN}model\n")),
            end,
            tuple(tokenizer.encode(EMPTY_THOUGHT)),
            tokenizer.token_id(CALLED),
            tokenizer.token_id(ANSWERED),
            _media_tokens(processor.config),
        )


def _media_tokens(config: Config) -> frozenset[int]:
    names = ("image_token_id", "video_token_id", "audio_token_id")
    names += ("boi_token_id", "eoi_token_id", "boa_token_id", "eoa_token_id")
    ids = (getattr(config, name) for name in names)
    return frozenset(token for token in ids if token is not None)


def learned(tokens: Sequence[int], marks: Marks) -> list[bool]:
    """Whether each token is learned.

    A turn is learned from behind its opening to its end, the end included. What a tool
    answered is not, but the `<|tool_response>` with which the model hands over is; nor
    is an empty thought at its start, which is part of the prompt; nor are media.
    """
    mask = [False] * len(tokens)
    width, thought = len(marks.opening), len(marks.empty_thought)
    at, inside, answering = 0, False, False
    while at < len(tokens):
        token = tokens[at]
        if not inside:
            inside = tuple(tokens[at : at + width]) == marks.opening
            at += width if inside else 1
            answering = False
            if inside and tuple(tokens[at : at + thought]) == marks.empty_thought:
                at += thought
            continue
        if token == marks.opening[0]:  # a call that nobody answered
            inside = False
            continue
        if token == marks.called:
            # The second of two answers in a row is not the model's hand-over.
            mask[at] = not answering and tokens[at - 1] != marks.answered
            answering = True
        elif token == marks.answered:
            answering = False
        elif not answering:
            mask[at] = token not in marks.media
        inside = token != marks.end
        at += 1
    return mask
