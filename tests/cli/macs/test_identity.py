"""What has to be the same in all processes."""

from pathlib import Path

import tiny

from mlx_gemma4.checkpoint.load import prepare_model
from mlx_gemma4.cli.macs.identity import difference, identity


def test_same_and_other_weights(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("copy", 0), ("other", 1)):
        tiny.write_checkpoint(tmp_path / name, "E2B", seed)
    one, copy, other = (
        identity(prepare_model(tmp_path / name)) for name in ("one", "copy", "other")
    )
    assert difference(one, copy) is None
    assert "other weights" in (difference(one, other) or "")


def test_first_difference_is_told() -> None:
    ours = {"gemma4": "1", "mlx": "2", "dtype": "float32", "config": "", "weights": ""}
    assert difference(ours, {**ours, "mlx": "3", "weights": "x"}) == "mlx 3 (here 2)"
    assert difference(ours, {**ours, "dtype": "bfloat16"}) == (
        "weights in bfloat16 (here float32)"
    )
