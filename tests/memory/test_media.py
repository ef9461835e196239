"""What media take beside the text, against MLX's own count at real widths."""

from dataclasses import replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
import real

from mlx_gemma4.audio.tower import AudioTower
from mlx_gemma4.config import AudioConfig, Config, VisionConfig
from mlx_gemma4.memory.estimate import Demand
from mlx_gemma4.memory.media import Block, media_bytes
from mlx_gemma4.model import Gemma4
from mlx_gemma4.vision.tower import VisionTower


def pixels(rows: int, columns: int) -> tuple[mx.array, mx.array]:
    """A picture of `rows` x `columns` patches."""
    places = [[i % columns, i // columns] for i in range(rows * columns)]
    return mx.zeros((rows * columns, 768)), mx.array(places, mx.int32)


def peak(compute: Any) -> int:
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(compute())
    return mx.get_peak_memory() - before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["E2B", "26B-A4B"])
@pytest.mark.parametrize(("rows", "columns", "many"), [(7, 10, 3), (11, 12, 1)])
def test_seeing(name: str, rows: int, columns: int, many: int) -> None:
    config = Config.from_dict(real.read(name))
    assert isinstance(config.vision_config, VisionConfig)
    eye: Any = nn.Module()
    eye.vision_tower = VisionTower(replace(config.vision_config, num_hidden_layers=2))
    eye.embed_vision, eye.config = (lambda soft: soft), config
    pictures = [pixels(3 * rows, 3 * columns) for _ in range(many)]
    mx.eval(eye.vision_tower.parameters(), pictures)
    blocks: list[Block] = [("image", rows * columns)] * many
    media = media_bytes(config, blocks, mx.float32)
    assert media.held == sum(x.nbytes for picture in pictures for x in picture)
    taken = peak(lambda: Gemma4._see(eye, pictures))
    assert taken <= media.working <= 1.25 * taken


@pytest.mark.slow
def test_hearing() -> None:
    config = Config.from_dict(real.read("E2B"))
    assert isinstance(config.audio_config, AudioConfig)
    tower = AudioTower(replace(config.audio_config, num_hidden_layers=1))
    frames = mx.zeros((1000, 128))
    mx.eval(tower.parameters(), frames)
    media = media_bytes(config, [("audio", 250)], mx.float32)
    assert media.held == frames.nbytes
    taken = peak(lambda: tower(frames))
    assert taken <= media.working <= 1.1 * taken


def test_media_are_part_of_the_estimate() -> None:
    config = Config.from_dict(real.read("E2B"))
    demand = Demand(config.text_config, 10**9, mx.bfloat16, 1024)
    blocks: list[Block] = [("image", 1120)] * 50
    media = media_bytes(config, blocks, mx.bfloat16)
    assert media.longest == 1120
    plain, seen = demand.at(60_000), replace(demand, media=media).at(60_000)
    # 9 patches of 16 x 16 pixels and their places make a soft token.
    assert seen.media == 50 * 1120 * 9 * (768 + 2) * 4
    assert seen.reading > plain.reading and "media 1.55 GB" in str(seen)
    assert "media" not in str(plain)


def test_without_towers() -> None:
    config = Config.from_dict(real.read("google/gemma-4-12B-it-qat-w4a16-ct"))
    one = media_bytes(config, [("audio", 100)], mx.bfloat16)
    more = media_bytes(config, [("audio", 100), ("image", 280)], mx.bfloat16)
    assert one.held == 100 * 640 * 4
    assert more.held == one.held + 280 * (48 * 48 * 3 + 2) * 4
    assert more.working > one.working > 0 and more.longest == 280
