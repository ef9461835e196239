"""Gradients of every kind of adapter against torch's, and the loss against serving."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import tiny
import tiny_media
from adapting import filled, quantised
from rows import Rows

from mlx_gemma4.model import Gemma4
from mlx_gemma4.text import masks
from mlx_gemma4.tune.adapters import Adapter, AdapterSettings, new_adapter
from mlx_gemma4.tune.batches import Batch
from mlx_gemma4.tune.forward import hidden_states
from mlx_gemma4.tune.learning import gradient_of, prepare
from mlx_gemma4.tune.losses import logits, summed_loss

SHAPES = ["E2B", "E4B", "12B", "26B-A4B", "31B"]
SOME = [  # of them in `make test`
    "E2B",
    *(pytest.param(shape, marks=pytest.mark.slow) for shape in SHAPES[1:]),
]
SEED = 7


def text_rows(lengths: tuple[int, ...] = (30, 19)) -> Rows:
    """Two rows of different length; the first beyond three windows."""
    rows = Rows()
    for seed, length in enumerate(lengths):
        prompt = tiny_media.Prompt(tiny.random_tokens(length, seed))
        rows.add(prompt, 1, 4, 5, 17, -3, -1)
    return rows


def media_rows(config: dict[str, Any]) -> Rows:
    rows = Rows()
    for seed in (1, 2):
        rows.add(tiny_media.prompt(config, seed), -5, -3, -2, -1)
    return rows


def ours(
    model: Gemma4, adapter: Adapter, batch: Batch, checkpoint: bool
) -> tuple[float, dict[str, np.ndarray]]:
    learned = prepare(model, adapter)
    assert learned.keys() == adapter.parameters().keys()
    value, found = gradient_of(model, checkpoint)(learned, batch)
    return float(value), {name: np.array(g) for name, g in found.items()}


def check(mine: tuple[float, Any], theirs: tuple[float, Any]) -> None:
    """Within a thousandth of each tensor's own size."""
    assert abs(mine[0] - theirs[0]) < 1e-3 * abs(theirs[0])
    assert mine[1].keys() == theirs[1].keys()
    largest = max(np.linalg.norm(g) for g in theirs[1].values())
    for name, expected in theirs[1].items():
        gap = np.linalg.norm(mine[1][name] - expected)
        # What is nothing beside all else is a rounding error there.
        size = max(np.linalg.norm(expected), 1e-4 * largest)
        assert gap < 1e-3 * size, f"{name}: {gap / size:.2e}"


def values(adapter: Adapter) -> dict[str, dict[str, np.ndarray]]:
    """By path and leaf."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, value in adapter.parameters().items():
        path, _, leaf = name.rpartition(".")
        found.setdefault(path, {})[leaf] = np.array(value)
    return found


def reference() -> Any:
    import torch_tuning

    return torch_tuning


TEXT = [(shape, kind) for shape in SHAPES for kind in ("lora", "dora")]


@pytest.mark.reference
@pytest.mark.parametrize("shape, kind", [*TEXT, ("26B-A4B", "experts")])
def test_text(shape: str, kind: str):
    config = tiny.config_dict(shape)
    model = tiny.build_from(config, SEED)
    targets = ("attention", "mlp", *(("experts",) if kind == "experts" else ()))
    adapter = filled(model, "dora" if kind == "dora" else "lora", *targets)
    torch_side = reference().adapted(config, SEED, values(adapter), adapter.scale)
    rows = text_rows()
    expected = reference().gradients(torch_side[0], config, torch_side[1], rows.pairs)
    for checkpoint in (False, True):
        check(ours(model, adapter, rows.batch(), checkpoint), expected)


@pytest.mark.reference
@pytest.mark.parametrize("shape", SHAPES)
def test_full(shape: str):
    config = tiny.config_dict(shape)
    model = tiny.build_from(config, SEED)
    adapter = new_adapter(model, AdapterSettings("full"))
    torch_side = reference().opened(config, SEED, list(adapter.weights))
    rows = text_rows()
    expected = reference().gradients(torch_side[0], config, torch_side[1], rows.pairs)
    for checkpoint in (False, True):
        check(ours(model, adapter, rows.batch(), checkpoint), expected)


@pytest.mark.reference
@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("shape", SHAPES)
def test_media(tmp_path: Path, shape: str, kind: str):
    """Pictures, video and sound, all padded, through adapters of all parts."""
    config = tiny_media.config_dict(shape)
    model = tiny_media.build(tmp_path, config, SEED)
    adapter = filled(model, kind, "attention", "mlp", "vision", "audio")
    torch_side = reference().adapted(config, SEED, values(adapter), adapter.scale)
    rows = media_rows(config)
    expected = reference().gradients(torch_side[0], config, torch_side[1], rows.pairs)
    for checkpoint in (False, True):
        mine = ours(model, adapter, rows.batch(), checkpoint)
        assert all(np.isfinite(g).all() for g in mine[1].values())
        check(mine, expected)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SOME)
def test_hidden_states_are_those_of_the_model(
    tmp_path: Path, shape: str, monkeypatch: pytest.MonkeyPatch
):
    """For text and media; longer than a block of banded attention."""
    config = tiny_media.config_dict(shape)
    model = tiny_media.build(tmp_path, config, SEED)
    for batch in (text_rows((150,)).batch(), media_rows(config).batch()):
        monkeypatch.setattr(masks, "BLOCK", 10**6)
        expected = np.array(model(batch.tokens, media=batch.media))
        monkeypatch.setattr(masks, "BLOCK", 8)
        for checkpoint in (False, True):
            h = hidden_states(model, batch.tokens, batch.media, checkpoint)
            found = logits(model, h.reshape(-1, h.shape[-1]))
            found = np.array(found).reshape(expected.shape)
            np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SOME)
def test_the_loss_is_that_of_serving(shape: str):
    """Without a cache as through it, token by token and in chunks."""
    model = tiny.build(shape, SEED)
    rows = text_rows((40,))
    (tokens,), (positions,) = [p.tokens for p in rows.prompts], rows.positions
    learned = prepare(model, filled(model))
    loss, _ = gradient_of(model, True)(learned, rows.batch())
    for step in (1, 7):
        cache: Any = model.make_cache()
        parts = [
            tiny.logits(model, tokens[i : i + step], cache)
            for i in range(0, len(tokens), step)
        ]
        scores = np.concatenate(parts).astype(np.float64)
        chances = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        served = -sum(np.log(chances[p - 1, tokens[p]]) for p in positions)
        assert abs(float(loss) - served) < 1e-4 * served


@pytest.mark.slow
@pytest.mark.parametrize("piece", [1, 96 * 4, 2**25])
@pytest.mark.parametrize("cap", [30.0, 1.0, None])
def test_pieces_of_the_vocabulary_change_nothing(piece: int, cap: float | None):
    model = tiny.build("E2B", SEED, final_logit_softcapping=cap)
    h = 3 * mx.random.normal((11, 32), key=mx.random.key(1))
    targets = mx.array(tiny.random_tokens(11, 1))

    def whole(h: mx.array) -> mx.array:
        scores = logits(model, h)
        chosen = mx.take_along_axis(scores, targets[:, None], axis=-1)[:, 0]
        return 3 * (mx.logsumexp(scores, axis=-1) - chosen).sum()

    def pieces(h: mx.array) -> mx.array:
        return 3 * summed_loss(model, h, targets, piece)

    expected, found = (mx.value_and_grad(f)(h) for f in (whole, pieces))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.array(a), np.array(b), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_quantised_weights_have_the_gradient_of_their_values(tmp_path: Path):
    from mlx_gemma4.checkpoint.load import load_model
    from mlx_gemma4.tune.fuse import fuse

    model = quantised(tmp_path / "model", "26B-A4B")
    nothing = Adapter("lora")
    fuse(
        quantised(tmp_path / "same", "26B-A4B"),
        nothing,
        tmp_path / "model",
        tmp_path / "plain",
        "bf16",
    )
    plain = load_model(tmp_path / "plain")
    found = []
    for each in (model, plain):
        adapter = filled(each, "lora", "attention", "mlp", "experts")
        found.append(ours(each, adapter, text_rows().batch(), True))
    for name, expected in found[1][1].items():
        gap = np.linalg.norm(found[0][1][name] - expected)
        assert gap < 0.1 * np.linalg.norm(expected), name
