"""Conversations with pictures: whole in every chunk, read once, told apart."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import tiny_media
from PIL import Image
from turns import Author

from mlx_gemma4 import PrefixCache, generate, load
from mlx_gemma4.errors import MediaError
from mlx_gemma4.model import Gemma4
from mlx_gemma4.prompt.processor import Processor

Loaded = tuple[Gemma4, Processor]
MESSAGE = dict[str, Any]


@pytest.fixture(scope="module", params=["26B-A4B", "E2B"])
def loaded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Loaded:
    """Pictures that see themselves both ways and in a mixture; and neither."""
    folder = tmp_path_factory.mktemp(request.param)
    tiny_media.write_checkpoint(folder, variant=request.param)
    return load(folder)


def image(seed: int, width: int = 48, height: int = 36) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return {"type": "image", "image": Image.fromarray(pixels)}


def sound(seed: int, samples: int = 8000) -> dict[str, Any]:
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, samples)
    return {"type": "audio", "audio": (noise.astype(np.float32), 16_000)}


def video(*seeds: int) -> dict[str, Any]:
    return {"type": "video", "video": [image(seed)["image"] for seed in seeds]}


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def user(*parts: dict[str, Any]) -> MESSAGE:
    return {"role": "user", "content": list(parts)}


def answer(text: str) -> MESSAGE:
    return {"role": "assistant", "content": text}


def fresh(loaded: Loaded, messages: list[MESSAGE], more: list[int]) -> np.ndarray:
    """Logits of every answered token, by one pass over all of it."""
    model, processor = loaded
    inputs = processor(messages)
    tokens: Any = inputs.tokens[0].tolist()
    logits = model(mx.array([[*tokens, *more]]), media=inputs.media)
    return np.array(logits[0, len(tokens) - 1 :])


EVERYTHING = [
    user(said("Look"), image(1), said("and"), image(2, 24, 60), said("then")),
    answer("Well."),
    user(sound(3), video(4, 5), said("and hear"), sound(6, 20_000), said("now?")),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "step", [*(pytest.param(n, marks=pytest.mark.slow) for n in (3, 7)), 1, 1000]
)
def test_chunks_never_cut_a_medium(
    loaded: Loaded, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = loaded
    expected: list[int] = []
    for _ in range(6):
        expected.append(int(fresh(loaded, EVERYTHING, expected)[-1].argmax()))
    options: dict[str, Any] = {
        "temperature": 0,
        "max_tokens": 6,
        "prefill_step": step,
    }
    greedy = generate(model, processor, EVERYTHING, **options).tokens
    assert greedy == expected[: len(greedy)]
    author = Author(monkeypatch)
    author.answer = expected
    generate(model, processor, EVERYTHING, **options)
    ours = np.array(mx.stack(author.logits))
    theirs = fresh(loaded, EVERYTHING, expected)[: len(ours)]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4)


class Turns:
    """A conversation of given answers, each turn's logits checked."""

    def __init__(self, loaded: Loaded, patch: pytest.MonkeyPatch) -> None:
        self.loaded, self.author = loaded, Author(patch)
        self.prefix = PrefixCache(loaded[0])

    def read(self, messages: list[MESSAGE], text: str = "Yes.") -> tuple[int, int]:
        """How many tokens of the prompt were there already, and how many it has."""
        model, processor = self.loaded
        tokens = processor.tokenizer.encode(f"{text}<turn|>")
        self.author.answer = tokens
        response = generate(model, processor, messages, prefix=self.prefix)
        assert response.stats and response.text == text
        ours = np.array(mx.stack(self.author.logits[: len(tokens)]))
        theirs = fresh(self.loaded, messages, tokens)[:-1]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4)
        return response.stats.cached_tokens, response.stats.prompt_tokens


def length(loaded: Loaded, messages: list[MESSAGE]) -> int:
    return loaded[1](messages, add_generation_prompt=False).tokens.size


@pytest.mark.slow
def test_a_later_turn_reads_only_what_is_new(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = Turns(loaded, monkeypatch)
    messages = [user(said("Hello?"))]
    assert turns.read(messages)[0] == 0
    for parts in (
        (said("Look:"), image(1)),
        (said("And?"),),
        (sound(2), said("Listen.")),
        (image(3), video(4, 5), said("Here.")),
        (said("So?"),),
    ):
        before = length(loaded, [*messages, answer("Yes.")])
        messages = [*messages, answer("Yes."), user(*parts)]
        cached, prompt = turns.read(messages)
        assert before - 2 <= cached < prompt


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["image", "audio", "video"])
def test_another_medium_is_read_afresh(
    loaded: Loaded, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"image": image, "audio": sound, "video": video}[kind]
    processor = loaded[1]
    turns = Turns(loaded, monkeypatch)
    start = [user(said("Hello there?")), answer("Yes.")]
    first, other = ([*start, user(made(seed), said("?"))] for seed in (1, 2))
    same, changed = processor(first), processor(other)
    assert same.text == changed.text
    soft = getattr(processor.config, f"{kind}_token_id")
    tokens: Any = same.tokens[0].tolist()
    turns.read(first)
    again, prompt = turns.read(first)
    assert tokens.index(soft) < again < prompt
    cached, prompt = turns.read(other)
    assert cached <= tokens.index(soft) < prompt


@pytest.mark.slow
def test_the_first_of_two_equal_pictures_is_kept(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = Turns(loaded, monkeypatch)
    turns.read([user(image(1), image(1), said("?"))])
    turns.read([user(image(1), image(2), said("?"))])
    turns.read([user(image(2), image(2), said("?"))])


def test_media_of_a_model_without_towers(tmp_path: Path) -> None:
    tiny_media.write_checkpoint(tmp_path, vision=None, audio=None)
    model, processor = load(tmp_path)
    for part, words in (
        (image(1), "cannot see"),
        (video(1), "cannot see"),
        (sound(1), "cannot hear"),
    ):
        with pytest.raises(MediaError, match=words):
            generate(model, processor, [user(part)])
