"""What has to be the same in all processes that hold a model together."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import version

from mlx_gemma4 import __version__
from mlx_gemma4.checkpoint.load import Prepared
from mlx_gemma4.tune.base import weights_digest

WORDS = {
    "gemma4": "gemma4 {}",
    "mlx": "mlx {}",
    "dtype": "weights in {}",
    "config": "another config.json",
    "weights": "other weights",
}


def identity(prepared: Prepared) -> dict[str, str]:
    config = (prepared.folder / "config.json").read_bytes()
    return {
        "gemma4": __version__,
        "mlx": version("mlx"),
        "dtype": str(prepared.dtype).rpartition(".")[2],
        "config": hashlib.sha256(config).hexdigest(),
        "weights": weights_digest(prepared.folder),
    }


def difference(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str | None:
    """The first thing that another process has and this one has not, in words."""
    for key, words in WORDS.items():
        if theirs.get(key) != ours[key]:
            return f"{words.format(theirs.get(key))} (here {ours[key][:12]})"
    return None
