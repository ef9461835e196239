"""The demo checkpoint sees: the picture that comes with the repository."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from places import SHAPES

from mlx_gemma4 import Gemma4, Processor, generate, load

SENTENCE = (
    "A red circle at the top left, a blue star in the middle and a green square at the "
    "bottom right."
)
SHOW: dict[str, Any] = {"type": "image", "image": str(SHAPES)}
Loaded = tuple[Gemma4, Processor]


@pytest.fixture(scope="module")
def demo(demo_folder: Path) -> Loaded:
    return load(demo_folder)


def answer(demo: Loaded, *content: Any, before: Sequence[dict[str, Any]] = ()) -> str:
    messages = [*before, {"role": "user", "content": list(content)}]
    return generate(*demo, messages).text


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def test_demo_has_weights_of_both_towers(demo: Loaded) -> None:
    config = demo[0].config
    assert config.vision_config is not None
    assert config.audio_config is not None


def test_demo_describes_the_sample_picture(demo: Loaded) -> None:
    assert answer(demo, SHOW, text("Describe this image.")) == SENTENCE


@pytest.mark.slow
def test_demo_sees_after_a_turn_of_text(demo: Loaded) -> None:
    question = "What is the capital of France?"
    before = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer(demo, text(question))},
    ]
    found = answer(demo, SHOW, text("Describe this image."), before=before)
    assert found == SENTENCE


# Of the hold-out: neither the demo nor its drafter was trained on them.
HELD_OUT = (
    ("", "What's the opposite of cold?"),
    ("", "How much does the world cup cost?"),
    ("Begin every answer with Well,", "What is the month after November?"),
)


@pytest.mark.slow
def test_demo_takes_most_of_its_drafters_drafts(demo: Loaded) -> None:
    drafted = accepted = 0
    for system, question in HELD_OUT:
        roles = {"system": system, "user": question}
        messages = [{"role": r, "content": said} for r, said in roles.items() if said]
        plain = generate(*demo, messages, draft="off")
        answered = generate(*demo, messages, draft="assistant")
        assert answered.tokens == plain.tokens
        assert answered.stats is not None and plain.stats is not None
        assert plain.stats.drafted == 0
        drafted += answered.stats.drafted
        accepted += answered.stats.accepted
    assert drafted >= 2 * len(HELD_OUT)
    assert accepted > drafted / 2  # two tokens of its answers are the same by 1 in 40


def test_demos_drafter_is_small(demo_folder: Path) -> None:
    folder = demo_folder / "assistant"
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 10**6
