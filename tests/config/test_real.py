"""The configuration files of published checkpoints, as they are."""

import hashlib

import pytest
import real
from places import REAL

from mlx_gemma4.config import Config

LINES = (REAL / "SHA256SUMS").read_text().splitlines()
SUMS = {name: digest for digest, name in (line.split() for line in LINES)}
READABLE = (
    *real.MODELS.values(),
    "google/gemma-4-E2B",
    "google/gemma-4-12B-it-qat-w4a16-ct",
    "google/gemma-4-31B-it-qat-q4_0-unquantized",
    "mlx-community/gemma-4-e2b-it-4bit",
)


def test_nobody_has_repaired_a_real_file() -> None:
    files = {str(path.relative_to(REAL)) for path in REAL.rglob("*.json")}
    assert files == set(SUMS)
    for name, expected in SUMS.items():
        assert hashlib.sha256((REAL / name).read_bytes()).hexdigest() == expected, name


@pytest.mark.parametrize("repository", READABLE)
def test_a_real_configuration_is_read_without_a_warning(repository: str) -> None:
    """Warnings are errors in these tests."""
    config = Config.from_dict(real.read(repository))
    assert config.text_config.vocab_size == 262_144
    assert config.image_token_id == 258_880
