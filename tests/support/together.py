"""Answers made several at once beside the same made one by one."""

import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import mlx.core as mx
import numpy as np
from PIL import Image

from mlx_gemma4 import Batch, Chunk, Gemma4, Processor, stream_generate
from mlx_gemma4.decoding.batch import Row

TIMED = ("time_to_first_token", "prefill_seconds", "decode_seconds", "peak_memory")
DRAFTED = ("drafted", "accepted", "draft_gain")
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def seen(chunks: Sequence[Chunk]) -> list[Any]:
    """All of an answer that is no matter of time."""
    *before, last = chunks
    stats = asdict(last.stats) if last.stats else {}
    told = {k: v for k, v in stats.items() if k not in TIMED + DRAFTED}
    return [*before, replace(last, stats=None), told]


def one_by_one(
    model: Gemma4, processor: Processor, asked: Sequence[dict[str, Any]]
) -> list[list[Any]]:
    return [seen([*stream_generate(model, processor, **each)]) for each in asked]


def together(
    model: Gemma4, processor: Processor, asked: Sequence[dict[str, Any]], rows: int
) -> list[list[Any]]:
    """rows: at once; one joins where another has left."""
    batch: Batch[Chunk] = Batch(model, rows)
    chunks: list[list[Chunk]] = [[] for _ in asked]
    places: dict[Row[Chunk], int] = {}
    line = list(enumerate(asked))
    while line or batch:
        while line and not batch.full:
            number, each = line.pop(0)
            places[batch.add(stream_generate(model, processor, **each))] = number
        for row in batch.step():
            if row.error:
                raise row.error
            chunks[places[row]] += row.take()
    return [seen(each) for each in chunks]


def picture(number: int) -> Image.Image:
    colours = [(200, 30, 30), (20, 60, 200), (240, 220, 10), (10, 160, 60)]
    return Image.new("RGB", (48 + number % 3 * 20, 64), colours[number % 4])


def sound(number: int) -> tuple[np.ndarray, int]:
    times = np.arange(8000 + number * 400) / 16000
    return np.sin(times * 2000 * (1 + number % 3)).astype(np.float32) * 0.3, 16000


def conversation(number: int) -> list[dict[str, Any]]:
    """With a picture, a sound, a video, or words alone."""
    text = " ".join(
        ["What is in it?", "Say it again."][: 1 + number % 2] * (number % 7)
    )
    media: list[list[dict[str, Any]]] = [
        [{"type": "image", "image": picture(number)}],
        [{"type": "audio", "audio": sound(number)}],
        [{"type": "video", "video": [picture(number + i) for i in range(3)]}],
        [],
    ]
    content = [*media[number % 4], {"type": "text", "text": text or "Hello"}]
    return [{"role": "user", "content": content}]


def options(number: int) -> dict[str, Any]:
    """One of many ways to ask."""
    ways: list[dict[str, Any]] = [
        {"temperature": 0},
        {"temperature": 1.0, "top_k": 30},
        {"temperature": 0, "schema": "colour, count int"},
        {"temperature": 0.7, "tools": [WEATHER], "tool_choice": "weather"},
        {"temperature": 1.2, "repetition_penalty": 1.3, "min_p": 0.02},
        {"temperature": 1.0, "presence_penalty": 1.0, "frequency_penalty": 0.5},
        {"temperature": 0.9, "stop": ["e", "1"]},
        {"temperature": 0.8, "thinking": True, "think_budget": 5},
        {"temperature": 1.0, "regex": "[a-z ]{3,30}[.]"},
        {"temperature": 0, "plain": True, "logit_bias": {300: 3.0}},
    ]
    limit = 5 + random.Random(number).randrange(20)
    return {**ways[number % len(ways)], "seed": number, "max_tokens": limit}


def ids(number: int, rows: int) -> list[int]:
    draw = random.Random(number)
    return [2, *(draw.randrange(5, rows) for _ in range(draw.randrange(2, 60)))]


def ragged(model: Gemma4, lengths: Sequence[int]) -> tuple[mx.array, list[Any]]:
    """A token for each of several caches, that hold so many of others."""
    caches = [model.make_cache() for _ in lengths]
    for number, (cache, length) in enumerate(zip(caches, lengths, strict=True)):
        draw = random.Random(number)
        model(mx.array([[draw.randrange(5, 60) for _ in range(length)]]), cache)
    return mx.array([[9 + number] for number in range(len(lengths))]), caches
