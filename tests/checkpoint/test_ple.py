"""Models whose per-layer embeddings stay on disk: the same to the bit."""

import copy
from pathlib import Path
from typing import Any

import layouts
import mlx.core as mx
import numpy as np
import pytest
import tiny
from mlx.utils import tree_flatten
from places import DEMO, SHAPES

from mlx_gemma4 import generate, load
from mlx_gemma4.checkpoint.load import prepare_model
from mlx_gemma4.config.ple import Ple
from mlx_gemma4.decoding.step import DecodingStep
from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.model import Gemma4
from mlx_gemma4.text.table import RowTable

TOKENS = tiny.random_tokens(21, 3)
FILE, WEIGHT = "model.safetensors", "model.language_model.embed_tokens_per_layer.weight"


def both(folder: Path, **options: Any) -> tuple[Gemma4, Gemma4]:
    """In memory, and on disk."""
    memory, disk = (
        prepare_model(folder, ple=ple, **options).load()
        for ple in (Ple.MEMORY, Ple.DISK)
    )
    assert memory.language_model.table is None
    assert isinstance(disk.language_model.table, RowTable)
    return memory, disk


def equal(one: mx.array, other: mx.array) -> None:
    np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("e2b")
    tiny.write_checkpoint(made, "E2B", shards=3, unused_kv=True)
    return made


@pytest.fixture(scope="module")
def pair(folder: Path) -> tuple[Gemma4, Gemma4]:
    return both(folder)


def test_where_a_whole_table_does_not_fit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare_model(folder, ple=Ple.MEMORY)
    limit = whole.footprint.least + 1
    monkeypatch.setattr("mlx_gemma4.checkpoint.load.memory_limit", lambda: limit)
    with pytest.raises(MemoryError, match="--ple disk .* which fits"):
        whole.check_memory()
    prepare_model(folder, ple=Ple.DISK).check_memory()


def test_the_table_is_no_parameter(pair: tuple[Gemma4, Gemma4]) -> None:
    memory, disk = (dict(tree_flatten(model.parameters())) for model in pair)
    (left,) = memory.keys() - disk.keys()
    assert left == "language_model.embed_tokens_per_layer.weight"
    assert pair[1].nbytes == pair[0].nbytes - memory[left].nbytes
    table = pair[1].language_model.table
    assert table is not None and table.nbytes == memory[left].nbytes


@pytest.mark.parametrize(("variant", "packed"), [("E2B", True), ("demo", False)])
def test_logits(variant: str, packed: bool, tmp_path: Path) -> None:
    config = tiny.config_dict(variant, hidden_size_per_layer_input=32)
    tensors = layouts.random_arrays(config)
    if packed:
        how = {"group_size": 32, "bits": 4}
        tensors, _ = layouts.packed(tensors, lambda m: how if "embed" in m else None)
    models = both(layouts.save(tmp_path, config, tensors))
    equal(*(mx.array(tiny.logits(model, TOKENS)) for model in models))


def test_cached_chunked_and_in_batches(pair: tuple[Gemma4, Gemma4]) -> None:
    batch = mx.array([TOKENS, TOKENS[::-1]])
    caches = [model.make_cache() for model in pair]
    for start, end in ((0, 7), (7, 19), (19, 20), (20, 21)):
        found = [
            model(batch[:, start:end], cache)
            for model, cache in zip(pair, caches, strict=True)
        ]
        equal(*found)
    equal(*(model(batch, last_only=True) for model in pair))


def test_steps_and_drafts(pair: tuple[Gemma4, Gemma4]) -> None:
    """What is compiled gets the rows as an argument."""
    caches, steps = [], []
    for model in pair:
        caches.append(model.make_cache())
        model(mx.array([TOKENS]), caches[-1])
        steps.append(DecodingStep(model, lambda f: f))
    for count in (1, 1, 4, 1):
        tokens = mx.array([tiny.random_tokens(count, count)])
        (one, _), (other, _) = (
            s(tokens, c) for s, c in zip(steps, caches, strict=True)
        )
        equal(one, other)


@pytest.mark.slow
def test_the_rows_are_an_argument_of_what_is_compiled(
    pair: tuple[Gemma4, Gemma4],
) -> None:
    """Of the first piece alone: each takes a C++ compiler seconds."""
    compilers = iter([mx.compile])
    steps = [
        DecodingStep(pair[0], lambda f: f),
        DecodingStep(pair[1], lambda f: next(compilers, lambda f: f)(f)),
    ]
    caches = [model.make_cache() for model in pair]
    for seed in (1, 2):
        tokens = mx.array([tiny.random_tokens(1, seed)])
        (one, _), (other, _) = (
            step(tokens, cache) for step, cache in zip(steps, caches, strict=True)
        )
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_placeholders_of_media(pair: tuple[Gemma4, Gemma4]) -> None:
    tokens = mx.array([[5, tiny.IMAGE, tiny.AUDIO, 7]])
    h = mx.array(tiny.random_tensor("h", (1, 4, 32), 0))
    equal(*(model(tokens, input_embeddings=h) for model in pair))
    found = [(DecodingStep(model, lambda f: f), model) for model in pair]
    equal(*(step(tokens[:, 1:2], m.make_cache())[0] for step, m in found))


def test_copies(pair: tuple[Gemma4, Gemma4]) -> None:
    other = copy.deepcopy(pair[1])
    assert other.language_model.table is not pair[1].language_model.table
    equal(other(mx.array([TOKENS])), pair[0](mx.array([TOKENS])))


@pytest.mark.slow
def test_whole_answers() -> None:
    """In two chunks, with a picture."""
    parts = [{"type": "image", "path": str(SHAPES)}, {"type": "text", "text": "What?"}]
    messages = [{"role": "user", "content": parts}]
    answers = []
    for ple in ("memory", "disk"):
        model, processor = load("demo", ple=ple)
        found = generate(model, processor, messages, seed=2, max_tokens=20)
        again = generate(model, processor, "Hi " * 1500, max_tokens=8, temperature=0)
        answers.append((found.text, again.text))
    assert answers[0] == answers[1] and all(answers[0])


def test_the_rest_of_the_table_is_not_read(tmp_path: Path) -> None:
    tensors = tiny.write_checkpoint(tmp_path)
    damaged = {name: mx.array(each) for name, each in tensors.items()}
    damaged[WEIGHT][50] = mx.nan
    mx.save_safetensors(str(tmp_path / FILE), damaged)
    with pytest.raises(CheckpointError, match="NaN or infinite values in"):
        prepare_model(tmp_path).load()
    model = prepare_model(tmp_path, ple=Ple.DISK).load()
    assert np.isfinite(tiny.logits(model, [5, 6, 49])).all()
    with pytest.raises(CheckpointError, match="in row 50 of model.language_model.emb"):
        model(mx.array([[5, 50]]))


def test_headers_are_as_strict(tmp_path: Path) -> None:
    tensors = tiny.write_checkpoint(tmp_path)
    arrays = {name: mx.array(each) for name, each in tensors.items()}
    mx.save_safetensors(str(tmp_path / FILE), arrays | {WEIGHT: arrays[WEIGHT][1:]})
    with pytest.raises(CheckpointError, match="embed_tokens_per_layer.weight has 95"):
        prepare_model(tmp_path, ple=Ple.DISK)


def test_models_without_a_table(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, "31B")
    prepared = prepare_model(tmp_path, ple=Ple.DISK)
    assert prepared.footprint.table == 0 and not prepared.table_on_disk
    assert prepared.load().language_model.table is None


def test_memory_decides(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def limit(nbytes: float) -> None:
        monkeypatch.setattr("mlx_gemma4.checkpoint.load.memory_limit", lambda: nbytes)

    need = prepare_model(folder).footprint
    assert 0 < need.table and need.least == need.nbytes - need.table
    limit(1.5 * need.nbytes + 1)
    assert not prepare_model(folder, ple=Ple.AUTO).table_on_disk
    limit(1.5 * need.nbytes - 2)
    assert prepare_model(folder, ple=Ple.AUTO).table_on_disk
    assert not prepare_model(folder).table_on_disk
    limit(need.least)
    assert prepare_model(folder, ple=Ple.AUTO).load().language_model.table
    with pytest.raises(MemoryError, match="The weights in .* take"):
        prepare_model(folder).load()
    limit(need.least - 1)
    with pytest.raises(MemoryError):
        prepare_model(folder, ple=Ple.DISK).load()


def test_what_it_can_be() -> None:
    with pytest.raises(ValueError, match="'cloud' is not a valid Ple"):
        load(DEMO, ple="cloud")
