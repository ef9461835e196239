"""Proof on a loaded model: text comes out finite, and what it sees and hears matters.

A tower can be loaded whole and still be dead: a projection of zeros, weights of another
model, placeholders that nobody reads. Two different inputs must give different soft
tokens, and different hidden states where the answer begins.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import mlx.core as mx

from ..chat.rendered import Rendered
from ..errors import CheckpointError
from ..generation.loop import generate
from ..media import Kind
from ..model import Gemma4
from ..prompt.attachments import MARKS
from ..prompt.processor import Inputs, Processor
from ..prompt.vocabulary import perceived
from .findings import Findings
from .samples import grid, pictures, sound_tokens, sounds

QUESTION = "What is the capital of France?"
ASK: Mapping[Kind, str] = {
    "image": "What is in the picture?",
    "video": "What happens in the video?",
    "audio": "What do you hear?",
}
WORDS = 3  # tokens of an answer: to be read, not judged
# Of the largest value. What does not reach a place changes nothing at all there;
# different inputs differ by far more than rounding.
LEAST = 1e-3
NAMES: Mapping[Kind, str] = {"image": "pictures", "video": "video", "audio": "sound"}


@dataclass(frozen=True)
class Reach:
    """How two different media of a kind came through: soft tokens of the first and as
    many as there have to be, and the largest difference of soft tokens and of hidden
    states at the prompt's end, as a share of the largest value."""

    soft_tokens: int
    expected: int
    soft_difference: float
    answer_difference: float


@dataclass(frozen=True)
class Run:
    """What a loaded model did; `answer` is the start of a greedy one."""

    answer: str | None
    reaches: Mapping[Kind, Reach]


def prove(
    model: Gemma4,
    processor: Processor,
    findings: Findings,
    progress: Callable[[str], None] = lambda _: None,
) -> Run:
    """Runs the model on text and on two media of each kind that it takes.

    progress: told what is done next.
    """
    progress("Reading text …")
    answer = findings.attempt("text", partial(_text, model, processor))
    if answer is not None:
        findings.ok("text", f"Logits are finite; the answer begins {answer!r}.")
    reaches: dict[Kind, Reach] = {}
    for kind in perceived(model.config):
        progress(f"Showing it {NAMES[kind]} …")
        reach = findings.attempt(NAMES[kind], partial(_reach, model, processor, kind))
        if reach is not None:
            reaches[kind] = reach
            _judge(kind, model.config.organ, reach, findings)
    return Run(answer, reaches)


def _judge(kind: Kind, organ: str, reach: Reach, findings: Findings) -> None:
    name, tower = NAMES[kind], "audio" if kind == "audio" else "vision"
    counted = f"{reach.soft_tokens} soft tokens each"
    if reach.soft_tokens != reach.expected:
        findings.problem(
            name,
            f"{counted}, but {reach.expected} are due by config.json and "
            "processor_config.json.",
        )
    if not reach.soft_difference > LEAST:
        findings.problem(
            name,
            f"Two that differ give the same soft tokens: the {tower} {organ} or "
            f"embed_{tower} is dead. Download or convert the model again.",
        )
    elif not reach.answer_difference > LEAST:
        findings.problem(
            name, "They do not reach the answer: two that differ leave it as it is."
        )
    elif reach.soft_tokens == reach.expected:
        change = f"{reach.answer_difference:.0%}"
        findings.ok(
            name, f"{counted}, as due; two that differ change the answer by {change}."
        )


def _text(model: Gemma4, processor: Processor) -> str:
    inputs = _prompt(processor, [{"type": "text", "text": QUESTION}])
    logits = model(inputs.tokens)
    if not mx.isfinite(logits).all().item():
        raise CheckpointError(
            "The logits are not finite: the weights are damaged, or too large for "
            f"{logits.dtype}."
        )
    tokens = cast(list[list[int]], inputs.tokens.tolist())[0]
    told = generate(model, processor, tokens=tokens, temperature=0, max_tokens=WORDS)
    return told.text or told.thought


def _reach(model: Gemma4, processor: Processor, kind: Kind) -> Reach:
    parts, expected = _media(model, processor, kind)
    seen = [_prompt(processor, [p, _question(kind)]) for p in parts]
    counts = [sum(span.end - span.start for span in each.spans) for each in seen]
    soft, ends = zip(*(_states(model, each) for each in seen), strict=True)
    if not all(mx.isfinite(each).all().item() for each in (*soft, *ends)):
        raise CheckpointError(
            "The hidden states are not finite: the weights are damaged, or too large "
            "for the type they are computed in."
        )
    if counts[0] != counts[1]:
        raise CheckpointError(f"Two of one size take {counts[0]} and {counts[1]}.")
    return Reach(counts[0], expected, _difference(*soft), _difference(*ends))


def _question(kind: Kind) -> dict[str, str]:
    return {"type": "text", "text": ASK[kind]}


def _media(
    model: Gemma4, processor: Processor, kind: Kind
) -> tuple[list[dict[str, Any]], int]:
    """Two parts of a message, and how many soft tokens each has to take."""
    settings = processor.media
    if kind == "audio":
        both = sounds(settings.audio)
        due = sound_tokens(len(both[0][0]), settings.audio)
        return [{"type": kind, kind: each} for each in both], due
    vision = model.config.vision_config
    assert vision is not None
    side = vision.patches.side * vision.patches.pooling
    video = kind == "video"
    budget = settings.frame_tokens if video else settings.image_tokens
    rows, columns = grid(budget)
    both = [[each] if video else each for each in pictures(budget, side)]
    return [{"type": kind, kind: each} for each in both], rows * columns


def _prompt(processor: Processor, content: Sequence[Mapping[str, Any]]) -> Inputs:
    """A user's message as a prompt; without a template, text behind its marks."""
    messages = [{"role": "user", "content": content}]
    if processor.template is not None:
        return processor(messages)
    words = [MARKS.get(part["type"]) or part["text"] for part in content]
    text = processor.tokenizer.bos_token + " ".join(words)
    return processor.encode(Rendered((text,)), processor.attach(messages))


def _states(model: Gemma4, inputs: Inputs) -> tuple[mx.array, mx.array]:
    """Soft tokens [S, hidden], and the hidden state [hidden] at the prompt's end."""
    assert inputs.media is not None
    embeddings = model.embed(inputs.tokens, inputs.media)
    soft = [embeddings[0, span.start : span.end] for span in inputs.spans]
    tokens = model.text_tokens(inputs.tokens)
    blocks = model.vision_blocks(inputs.tokens)
    h = model.language_model(tokens, None, embeddings, blocks, last_only=True)
    states = mx.concatenate(soft).astype(mx.float32), h[0, -1].astype(mx.float32)
    mx.eval(states)
    return states


def _difference(one: mx.array, other: mx.array) -> float:
    largest = mx.maximum(mx.abs(one).max(), mx.abs(other).max())
    return cast(float, (mx.abs(one - other).max() / (largest + 1e-30)).item())
