"""What a loaded model does with text, pictures and sound, whole and broken."""

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest

from mlx_gemma4 import Gemma4, Processor, load
from mlx_gemma4.audio.framing import AudioFeatureConfig
from mlx_gemma4.doctor.findings import Findings, Level
from mlx_gemma4.doctor.running import LEAST, prove
from mlx_gemma4.doctor.samples import grid, pictures, sounds

Loaded = tuple[Gemma4, Processor]


@pytest.fixture
def loaded(whole: Path) -> Loaded:
    return load(whole)


def problems(model: Gemma4, processor: Processor) -> dict[str, str]:
    """About -> sentence."""
    say = Findings()
    prove(model, processor, say)
    return {f.about: f.text for f in say.all if f.level is Level.PROBLEM}


def zero(module: nn.Linear) -> None:
    module.weight = mx.zeros_like(module.weight)


def test_a_whole_model(loaded: Loaded) -> None:
    say, told = Findings(), []
    run = prove(*loaded, say, told.append)
    assert [each.level for each in say.all] == [Level.OK] * 4
    assert run.answer is not None
    assert set(run.reaches) == {"image", "video", "audio"}
    counts = {kind: reach.soft_tokens for kind, reach in run.reaches.items()}
    assert counts == {"image": 12, "video": 6, "audio": 25}
    for reach in run.reaches.values():
        assert reach.expected == reach.soft_tokens
        assert min(reach.soft_difference, reach.answer_difference) > 10 * LEAST
    assert len(told) == 4


def test_a_projection_of_zeros(loaded: Loaded) -> None:
    model, processor = loaded
    zero(model.embed_vision.embedding_projection)
    found = problems(model, processor)
    assert set(found) == {"pictures", "video"}
    assert all("embed_vision is dead" in text for text in found.values())


@pytest.mark.slow
def test_a_deaf_model(loaded: Loaded) -> None:
    model, processor = loaded
    zero(model.embed_audio.embedding_projection)
    found = problems(model, processor)
    assert set(found) == {"sound"} and "audio tower" in found["sound"]


@pytest.mark.slow
def test_values_that_are_not_finite(loaded: Loaded) -> None:
    model, processor = loaded
    weight = model.embed_audio.embedding_projection.weight
    model.embed_audio.embedding_projection.weight = weight * mx.nan
    found = problems(model, processor)
    assert set(found) == {"sound"} and "not finite" in found["sound"]
    model.language_model.norm.weight = model.language_model.norm.weight * mx.inf
    assert "text" in problems(model, processor)


@pytest.mark.slow
def test_media_that_nobody_attends_to(loaded: Loaded) -> None:
    """Soft tokens differ, and nothing behind them does."""
    model, processor = loaded
    for layer in model.layers:
        zero(layer.self_attn.o_proj)
    found = problems(model, processor)
    assert set(found) == {"pictures", "video", "sound"}
    assert all("do not reach the answer" in text for text in found.values())


def test_another_count_of_soft_tokens(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_gemma4.doctor.running.sound_tokens", lambda *_: 24)
    found = problems(*loaded)
    assert set(found) == {"sound"}
    assert "25 soft tokens each, but 24 are due" in found["sound"]


@pytest.mark.slow
def test_without_a_template(loaded: Loaded) -> None:
    model, processor = loaded
    processor.template = None
    assert not problems(model, processor)


@pytest.mark.slow
def test_a_template_without_pictures(loaded: Loaded) -> None:
    model, processor = loaded
    assert processor.template is not None
    source = "{{ bos_token }}{{ messages[-1].content[-1].text }}"
    processor.template = type(processor.template)(source, "<bos>")
    found = problems(model, processor)
    assert set(found) == {"pictures", "video", "sound"}
    assert all("has no medium, but" in text for text in found.values())


def test_pictures_fill_their_budget() -> None:
    sizes = {budget: grid(budget) for budget in (1, 4, 6, 70, 140, 280, 560, 1120)}
    assert sizes[280] == (14, 20) and sizes[1] == (1, 1)
    assert all(rows * columns == n for n, (rows, columns) in sizes.items())
    assert grid(71) == (7, 10) and grid(5) == (2, 2)
    first, second = pictures(6, 48)
    assert first.size == second.size == (144, 96)


def test_sounds_have_their_length() -> None:
    settings = AudioFeatureConfig()
    (low, rate), (high, _) = sounds(settings)
    assert len(low) == len(high) == rate == 16_000
    assert settings.soft_tokens(16_000) == 25  # 40 ms each
    short = AudioFeatureConfig(audio_seq_length=5)
    assert len(sounds(short)[0][0]) == 5 * 640
