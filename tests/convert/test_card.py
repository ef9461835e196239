"""The model card says what was recorded, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_gemma4.convert import card

LINE = {
    "kind": "mlp",
    "bits": 4,
    "group_size": 128,
    "mode": "affine",
    "dtype": "BF16",
    "grid": None,
    "tensors": 9,
    "params": 2_000_000_000,
    "bytes": 1_062_500_000,
    "bits_per_weight": 4.25,
    "on_grid_groups": 0,
    "groups": 0,
}
PLAIN = LINE | {
    "kind": "norm",
    "bits": None,
    "group_size": None,
    "mode": None,
    "params": 1_000_000,
    "bytes": 2_000_000,
    "bits_per_weight": 16.0,
}
RECORD: dict[str, Any] = {
    "source": "google/gemma-4-E2B-it@abc123",
    "recipe": "4bit",
    "qat": None,
    "bits_per_weight": 4.2559,
    "classes": [LINE, PLAIN],
}
FIDELITY = {
    "tokens": 12_345,
    "kl_mean": 0.0123456,
    "kl_median": 0.001,
    "kl_p99": 0.2,
    "kl_max": 0.5,
    "top1": 0.98765,
    "perplexity_source": 7.5,
    "perplexity_converted": 7.625,
}
TEXT_ONLY: dict[str, Any] = {"vision_config": None}
ALL = {"vision_config": {"a": 1}, "audio_config": {"a": 1}}


def front_matter(text: str) -> list[str]:
    _, matter, _ = text.split("---\n", 2)
    return matter.splitlines()


def test_the_front_matter_is_what_the_hub_reads() -> None:
    assert front_matter(card.render(RECORD, ALL, None)) == [
        "library_name: mlx",
        "license: apache-2.0",
        'base_model: "google/gemma-4-E2B-it"',
        "base_model_relation: quantized",
        "pipeline_tag: any-to-any",
        "tags:",
        "- mlx",
        "- gemma4",
        '- "4bit"',
    ]


def test_a_local_source_is_no_base_model() -> None:
    for source in ("demo", "/models/mine", "a/b/c"):
        text = card.render(RECORD | {"source": source}, TEXT_ONLY, None)
        assert not any("base_model" in line for line in front_matter(text))
        assert "huggingface.co" not in text and source.rpartition("/")[2] in text


@pytest.mark.parametrize(
    ("config", "tag", "reads"),
    [
        (TEXT_ONLY, "text-generation", "It reads text."),
        ({"vision_config": {"a": 1}}, "any-to-any", "text and pictures."),
        (ALL, "any-to-any", "text, pictures and sound."),
    ],
)
def test_modalities(config: dict[str, Any], tag: str, reads: str) -> None:
    text = card.render(RECORD, config, None)
    assert f"pipeline_tag: {tag}" in front_matter(text) and reads in text
    assert ("mlx_vlm" in text) == (tag == "any-to-any")


def test_every_class_is_listed_and_summed() -> None:
    text = card.render(RECORD, ALL, None)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[2:] == [
        "| mlp | affine, 4 bits, groups of 128 | 2,000,000,000 | 1.06 GB | 4.25 |",
        "| norm | bf16 | 1,000,000 | 2.00 MB | 16.00 |",
        "| all | | 2,001,000,000 | 1.06 GB | **4.26** |",
    ]
    assert "4.26 bits per weight, 1.06 GB." in text


def test_fidelity_is_given_or_said_to_be_missing() -> None:
    assert "Not measured." in card.render(RECORD, ALL, None)
    text = card.render(RECORD, ALL, FIDELITY)
    assert "Not measured." not in text and "12,345 tokens" in text
    for number in ("0.01235", "0.00100", "0.20000", "98.77 %", "7.500", "7.625"):
        assert f"| {number} |" in text


def test_grids_are_told_only_where_there_are_some() -> None:
    assert "trained for this packing" not in card.render(RECORD, ALL, None)
    line = LINE | {"grid": "q4_0", "groups": 4000, "on_grid_groups": 3999}
    record = RECORD | {"qat": "q4_0", "classes": [line, PLAIN]}
    text = card.render(record, ALL, None)
    assert "99.97 % of its 4,000 groups" in text and "; 1 have the nearest" in text
    assert "- qat" in front_matter(text)
    line = line | {"on_grid_groups": 4000}
    text = card.render(record | {"classes": [line]}, ALL, None)
    assert "100.00 % of its 4,000 groups" in text and "nearest" not in text


def test_refinement_is_told() -> None:
    assert "DWQ" not in card.render(RECORD, ALL, None)
    assert "DWQ" in card.render(RECORD | {"refined": {"method": "dwq"}}, ALL, None)


def test_the_card_lies_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "conversion.json").write_text(json.dumps(RECORD))
    (tmp_path / "config.json").write_text(json.dumps(ALL))
    card.write_card(tmp_path, FIDELITY)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text == card.render(RECORD, ALL, FIDELITY)
    assert text.startswith("---\n") and text.endswith("\n")
