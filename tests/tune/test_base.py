"""Two models are the same by their weights, whatever their names and files."""

from pathlib import Path

import mlx.core as mx
import pytest

from mlx_gemma4.tune.base import PAGE, weights_digest

SIZE = 40 * PAGE


def written(folder: Path, change: int | None = None, count: int = SIZE) -> str:
    """The digest of a checkpoint; `change` is the byte that is another in it."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = mx.arange(count).astype(mx.uint8)
    if change is not None:
        numbers[change] = 255 - numbers[change]
    tensors = {"a.weight": numbers, "b.weight": mx.ones((3,))}
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)
    return weights_digest(folder)


@pytest.mark.parametrize("at", [0, 5, SIZE // 2, SIZE - 1])
def test_other_weights_are_another_model(tmp_path: Path, at: int):
    one = written(tmp_path / "one")
    assert one == written(tmp_path / "two")
    assert one != written(tmp_path / "two", at)


@pytest.mark.parametrize("count", [1, 2, PAGE, 2 * PAGE, 3 * PAGE - 1])
def test_all_of_a_small_tensor_counts(tmp_path: Path, count: int):
    one = written(tmp_path / "one", None, count)
    for at in {0, count // 3, count // 2, count - 1}:
        assert one != written(tmp_path / "two", at, count)


def test_names_and_shapes_count(tmp_path: Path):
    found = set()
    for name, shape in (("a", (4,)), ("a", (2, 2)), ("b", (4,))):
        file = tmp_path / "model.safetensors"
        mx.save_safetensors(str(file), {name: mx.zeros(shape)})
        found.add(weights_digest(tmp_path))
    assert len(found) == 3
