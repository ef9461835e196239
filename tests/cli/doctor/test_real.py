"""Real checkpoints, by their headers: configurations, tensor lists, and, where they are
at hand, Google's tokenizer and templates."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import real
from google_templates import google_template
from google_tokenizer import unpack
from places import REAL

from mlx_gemma4.cli.doctor.command import run
from mlx_gemma4.cli.render import Screen

pytestmark = pytest.mark.slow
MLX = "mlx-community/gemma-4-e2b-it-4bit"
LARGE = ("26B-A4B", "31B")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("tokenizer"))


def write(folder: Path, repository: str, headers: Any, tokenizer: Path) -> Path:
    """A folder whose weights are a hole, with the real files beside them."""
    real.write_headers(folder, {}, headers)
    for name in ("config.json", "generation_config.json", "processor_config.json"):
        shutil.copyfile(REAL / repository / name, folder / name)
    shutil.copyfile(tokenizer / "tokenizer.json", folder / "tokenizer.json")
    return folder


@pytest.mark.parametrize("name", [*real.MODELS, MLX])
def test_a_real_model_would_load(
    name: str,
    tokenizer: Path,
    tmp_path: Path,
    demo_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    repository = real.MODELS.get(name, name)
    headers = real.mlx_4bit("E2B") if name == MLX else real.tensors(name)
    folder = write(tmp_path / "model", repository, headers, tokenizer)
    if os.environ.get("GEMMA4_TEMPLATES"):
        template = google_template("large" if name in LARGE else "small")
        (folder / "chat_template.jinja").write_text(template)
    else:  # it writes the same marks
        shutil.copy(demo_folder / "chat_template.jinja", folder)
    assert run(str(folder), True, Screen(as_json=True)) == 0
    about = json.loads(capsys.readouterr().out)["model"]
    assert about["loads"]
    whose = {
        file["name"]: file["known"] and file["known"]["whose"]
        for file in about["files"]
    }
    assert whose["config.json"] == repository
    assert "google/gemma-4-{E2B,E4B,26B-A4B,31B}-it" in whose["generation_config.json"]
    faults = [c for c in about["checks"] if c["level"] in ("problem", "warning")]
    assert [c for c in faults if c["about"] not in ("memory", "processor")] == []
    heard = ["audio"] if "E" in name or name == MLX else []
    assert about["summary"]["senses"] == ["text", "image", "video", *heard]


def test_a_model_of_another_kind(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = "google/gemma-4-E2B-it"
    folder = write(tmp_path / "model", repository, real.tensors("E2B"), tokenizer)
    config = real.read("E2B") | {"model_type": "gemma3"}
    (folder / "config.json").write_text(json.dumps(config))
    assert run(str(folder), True, Screen(as_json=True)) == 3
    checks = json.loads(capsys.readouterr().out)["model"]["checks"]
    problem, *_ = [each for each in checks if each["level"] == "problem"]
    assert "model_type 'gemma3'" in problem["text"]
