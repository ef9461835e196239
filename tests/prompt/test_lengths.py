"""Prompts that no context holds are refused before they are encoded."""

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlx_gemma4 import Config, Processor
from mlx_gemma4.errors import ChatError
from mlx_gemma4.prompt import lengths
from mlx_gemma4.prompt.lengths import check_length


class Words:
    """A tokenizer of words, that counts the characters it was given."""

    def __init__(self) -> None:
        self.read = 0

    def encode(self, text: str) -> list[int]:
        self.read += len(text)
        return [0] * len(text.split())


@pytest.fixture
def config() -> Any:
    return SimpleNamespace(text_config=SimpleNamespace(max_position_embeddings=1000))


def test_only_the_beginning_is_encoded(config, monkeypatch):
    monkeypatch.setattr(lengths, "PIECE", 1000)
    tokenizer: Any = Words()
    with pytest.raises(ChatError, match="10,000,000 characters and far more tokens"):
        check_length("word " * 2_000_000, tokenizer, config)
    assert tokenizer.read < 10_000


def test_what_may_fit_is_left_to_the_exact_check(config, monkeypatch):
    monkeypatch.setattr(lengths, "PIECE", 1000)
    tokenizer: Any = Words()
    check_length("word " * 1600, tokenizer, config)
    assert tokenizer.read == 0  # not so long that it cannot fit
    check_length("w" * 1_000_000, tokenizer, config)  # few tokens after all


def test_a_text_too_long_for_a_template_is_a_long_prompt(demo_folder: Path):
    """It would refuse one, with a reason of its own."""
    config = Config.from_file(demo_folder / "config.json")
    processor = Processor.from_folder(demo_folder, config)
    text = "y\n" * 10_000_000
    for content in (text, [{"type": "text", "text": text}]):
        with pytest.raises(ChatError, match="The prompt has 20,000,000 characters"):
            processor([{"role": "user", "content": content}])
    for wrong in (None, "x" * 200_000, [None], [{"content": 3}]):
        assert list(lengths.long_texts(wrong)) == []  # type: ignore[arg-type]


def test_a_prompt_of_nothing(config):
    tokenizer: Any = Words()
    with pytest.raises(ChatError, match="made nothing"):
        check_length("", tokenizer, config)


@pytest.mark.slow
def test_ten_million_characters(demo_folder: Path):
    config = Config.from_file(demo_folder / "config.json")
    text = replace(config.text_config, max_position_embeddings=100_000)
    processor = Processor.from_folder(demo_folder, replace(config, text_config=text))
    start = time.process_time()
    with pytest.raises(ChatError, match="far more tokens than the 100,000"):
        processor([{"role": "user", "content": "some words " * 900_000}])
    assert time.process_time() - start < 5
