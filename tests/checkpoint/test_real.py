"""Published checkpoints, as headers of the real size, come as far as their weights."""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
import real
from google_tokenizer import google_tokenizer
from places import REAL

from mlx_gemma4.checkpoint.load import load_both
from mlx_gemma4.checkpoint.plan import plan_load, read_headers
from mlx_gemma4.cli.models.to_chat import load_to_chat
from mlx_gemma4.errors import CheckpointError


@dataclass(frozen=True)
class Published:
    """config: its repository among the fixtures, or None for Google's as converted.

    of: the one of `real.MODELS` whose tensors it has.
    """

    of: str
    config: str | None
    converted: bool = False

    def folder(self, place: Path) -> Path:
        config = real.mlx_config(self.of) if self.config is None else self.stated
        make = real.mlx_4bit if self.converted else real.tensors
        real.write_headers(place, config, make(self.of))
        for source in (real.MODELS[self.of], self.config or real.MODELS[self.of]):
            for name in ("generation_config.json", "processor_config.json"):
                if (file := REAL / source / name).is_file():
                    shutil.copyfile(file, place / name)
        return place

    @property
    def stated(self) -> dict[str, Any]:
        assert self.config is not None
        return real.read(self.config)


BASE = "google/gemma-4-E2B"
MLX = "mlx-community/gemma-4-e2b-it-4bit"
CHECKPOINTS = {
    **{path: Published(name, path) for name, path in real.MODELS.items()},
    BASE: Published("E2B", BASE),
    "31B-it-qat-q4_0-unquantized": Published(
        "31B", "google/gemma-4-31B-it-qat-q4_0-unquantized"
    ),
    MLX: Published("E2B", MLX, converted=True),
    **{f"mlx 4bit {name}": Published(name, None, True) for name in real.MODELS},
}


@pytest.fixture(params=CHECKPOINTS)
def published(request: pytest.FixtureRequest) -> Published:
    return CHECKPOINTS[request.param]


@pytest.mark.slow
def test_headers_alone_plan_to_load(published: Published, tmp_path: Path) -> None:
    """Warnings are errors in these tests. Nothing is evaluated."""
    folder = published.folder(tmp_path)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    plan = plan_load(*read_headers(folder))
    assert mx.get_peak_memory() - before < 10**6
    assert bool(plan.fit.packings) == published.converted
    config = plan.model.config
    assert config.vision_config is not None
    assert (config.audio_config is None) == (published.of in ("26B-A4B", "31B"))
    used = {name for pieces in plan.fit.sources.values() for _, name in pieces}
    unused = plan.tensors.keys() - used
    assert all(".self_attn." in name for name in unused)
    first = config.text_config.first_kv_shared_layer
    layers = {int(name.partition(".layers.")[2].partition(".")[0]) for name in unused}
    assert layers == set(range(first, config.text_config.num_hidden_layers))


def test_a_model_without_towers_plans_to_load(tmp_path: Path) -> None:
    """With all of 12B's tensors, and no other."""
    config = real.read("google/gemma-4-12B-it-qat-w4a16-ct")
    del config["quantization_config"]
    tensors = {
        name: ("BF16", tuple(shape))
        for name, shape in real.read("google/gemma-4-12B-it", "tensors.json").items()
    }
    plan = plan_load(*read_headers(real.write_headers(tmp_path, config, tensors)))
    assert not plan.fit.packings and not plan.model.config.has_towers
    assert len(plan.fit.sources) == len(tensors) == 677
    assert sum(prod(shape) for _, shape in tensors.values()) == 11_959_730_224


def weights_in_float32(tensors: Mapping[str, real.Header], used: set[str]) -> int:
    sizes = {n: prod(shape) * 4 for n, (_, shape) in tensors.items()}
    return sum(sizes[name] for name in used)


def refused_for_memory(
    folder: Path, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is checked before weights are read passes; then a limit is met."""
    load = sys.modules["mlx_gemma4.checkpoint.load"]
    monkeypatch.setattr(load, "memory_limit", lambda: 10**9)
    monkeypatch.setattr(load.mx, "load", None)
    make = real.mlx_4bit if published.converted else real.tensors
    plan = plan_load(*read_headers(folder))
    # The table of per-layer embeddings stays on disk where the rest does not fit.
    used = {
        name
        for parameter, pieces in plan.fit.sources.items()
        for _, name in pieces
        if "embed_tokens_per_layer" not in parameter
    }
    size = weights_in_float32(make(published.of), used)
    monkeypatch.setattr(load, "own_dtype", lambda *_: mx.float32)
    if published.config == BASE:
        (folder / "chat_template.jinja").unlink()
        with pytest.raises(CheckpointError, match="has no chat template"):
            load_to_chat(str(folder))
    with pytest.raises(MemoryError, match=rf"take {size / 1e9:.1f} GB.*most 1.0 GB"):
        load_both(folder, to_chat=published.config != BASE)


def test_chat_comes_as_far_as_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = CHECKPOINTS[real.MODELS["E2B"]]
    folder = published.folder(tmp_path)
    real.write_tokenizer(folder)
    refused_for_memory(folder, published, monkeypatch)


@pytest.mark.slow
def test_so_it_does_with_every_checkpoint(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Google's tokenizer, where it is there."""
    folder = published.folder(tmp_path)
    real.write_tokenizer(folder)
    if (tokenizer := google_tokenizer()) is not None:
        (folder / "tokenizer.json").write_bytes(tokenizer)
    refused_for_memory(folder, published, monkeypatch)


@pytest.mark.parametrize(
    "stated",
    [
        real.read("google/gemma-4-12B-it-qat-w4a16-ct")["quantization_config"],
        real.read(
            "google/gemma-4-E2B-it-qat-mobile-transformers",
            "quantization_config.part.json",
        ),
    ],
    ids=["w4a16-ct", "mobile"],
)
def test_trained_layouts_name_the_conversion(
    stated: dict[str, Any], tmp_path: Path
) -> None:
    config = real.read("E2B") | {"quantization_config": stated}
    headers = real.tensors("E2B")
    headers["lm_head.weight_scale"] = "F32", (262144, 1)
    folder = real.write_headers(tmp_path, config, headers)
    real.write_tokenizer(folder)
    with pytest.raises(CheckpointError, match=rf"`gemma4 convert {folder} OUT`"):
        load_to_chat(str(folder))
