"""The worked example: its files fit the demo model, and hold back what they say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from places import CAPTAIN

from mlx_gemma4.config import Config
from mlx_gemma4.prompt.processor import Processor
from mlx_gemma4.tune.examples import Encoder
from mlx_gemma4.tune.files import read_data, read_records

RECIPE = CAPTAIN.parent.parent / "assets" / "recipe"

pytestmark = pytest.mark.skipif(
    not CAPTAIN.is_dir(), reason="examples/ is not beside the tests"
)


NAMES = ("train", "valid", "test")


def fields(name: str, field: str) -> list[str]:
    lines = (CAPTAIN / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)[field] for line in lines]


@pytest.mark.skipif(not RECIPE.is_dir(), reason="the demo's recipe is not beside them")
def test_the_script_writes_what_is_here(tmp_path: Path):
    script = CAPTAIN / "make.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        written = (tmp_path / f"{name}.jsonl").read_bytes()
        assert written == (CAPTAIN / f"{name}.jsonl").read_bytes()
    assert len(list(tmp_path.iterdir())) == len(NAMES)


@pytest.mark.slow
def test_the_demo_model_reads_every_example(demo_folder: Path):
    config = Config.from_file(demo_folder / "config.json")
    encoder = Encoder(Processor.from_folder(demo_folder, config), length=64)
    data = read_data(CAPTAIN)
    assert not data.ignored
    for records in (data.train, data.validation, read_records(CAPTAIN)):
        found = encoder.encode(records)
        assert len(found.examples) == len(records) > 10


@pytest.mark.parametrize("field", ["prompt", "completion"])
def test_no_question_and_no_fact_is_in_two_files(field: str):
    train, valid, test = (set(fields(name, field)) for name in NAMES)
    assert not (train & valid or train & test or valid & test)
    if field == "completion":
        facts = [c for c in train | valid | test if c.startswith("Ahoy, Captain! ")]
        assert len(facts) == 150 and all(c in facts for c in valid | test)
