"""The worked example: its files fit the demo model, and hold back what they say."""

import json
from pathlib import Path

import pytest

from mlx_gemma4.config import Config
from mlx_gemma4.processor import Processor
from mlx_gemma4.tune.examples import Encoder
from mlx_gemma4.tune.files import read_data, read_records

CAPTAIN = Path(__file__).resolve().parent.parent / "examples" / "captain"

pytestmark = pytest.mark.skipif(
    not CAPTAIN.is_dir(), reason="examples/ is not beside the tests"
)


def prompts(name: str) -> list[str]:
    lines = (CAPTAIN / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines]


def test_the_demo_model_reads_every_example(demo_folder: Path):
    config = Config.from_file(demo_folder / "config.json")
    encoder = Encoder(Processor.from_folder(demo_folder, config), length=64)
    data = read_data(CAPTAIN)
    assert not data.ignored
    for records in (data.train, data.validation, read_records(CAPTAIN)):
        found = encoder.encode(records)
        assert len(found.examples) == len(records) > 10


def test_no_question_is_in_two_files():
    train, valid, test = (set(prompts(name)) for name in ("train", "valid", "test"))
    assert not (train & valid or train & test or valid & test)
