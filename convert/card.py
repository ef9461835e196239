"""The model card of a conversion: where it comes from, what it is packed in, and what
that cost. Written from `conversion.json`, so it says nothing that was not recorded.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_gemma4.checkpoint.folders import RECORD
from mlx_gemma4.config.assistant import is_assistant
from mlx_gemma4.reading.sizes import size

CARD = "README.md"
HUB_PARTS = 2  # of a repository's name
LICENSE = "apache-2.0"  # of all Gemma 4 models


def write_card(folder: Path, fidelity: Mapping[str, Any] | None) -> None:
    """Writes the card of a converted folder.

    fidelity: a comparison with the source as `check.Fidelity.as_dict` gives it; None
        says that it was not measured.
    """
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / CARD).write_text(render(record, config, fidelity), encoding="utf-8")


def render(
    record: Mapping[str, Any],
    config: Mapping[str, Any],
    fidelity: Mapping[str, Any] | None,
) -> str:
    """The text of the card. `record`: of the conversion; `config`: config.json."""
    parts = [
        _front_matter(record, config),
        _introduction(record, config),
        "## Packing\n\n" + _packing(record),
        "## Fidelity\n\n" + _fidelity(config, fidelity),
        "## Use\n\n" + _use(config),
    ]
    return "\n\n".join(parts) + "\n"


def _is_repository(source: str) -> bool:
    return len(source.partition("@")[0].split("/")) == HUB_PARTS


def _modalities(config: Mapping[str, Any]) -> list[str]:
    found = ["text"]
    if config.get("vision_config"):
        found.append("pictures")
    if config.get("audio_config"):
        found.append("sound")
    return found


def _front_matter(record: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    several = len(_modalities(config)) > 1
    lines = ["---", "library_name: mlx", f"license: {LICENSE}"]
    if _is_repository(record["source"]):
        lines.append(f"base_model: {json.dumps(record['source'].partition('@')[0])}")
        lines.append("base_model_relation: quantized")
    lines.append(f"pipeline_tag: {'any-to-any' if several else 'text-generation'}")
    lines += ["tags:", "- mlx", "- gemma4", f"- {json.dumps(record['recipe'])}"]
    if record.get("qat"):
        lines.append("- qat")
    return "\n".join([*lines, "---"])


def _introduction(record: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    source = record["source"]
    if _is_repository(source):
        name, _, revision = source.partition("@")
        link = f"[{name}](https://huggingface.co/{name})"
        source = f"{link}, revision {revision}" if revision else link
    else:
        source = f"`{source}`"
    *some, last = _modalities(config)
    read = f"It reads {', '.join(some)} and {last}." if some else f"It reads {last}."
    if is_assistant(config.get("model_type")):
        read = (
            "It proposes tokens to the model it was made for, and says nothing itself."
        )
    return (
        f"# {_title(record)}\n\n"
        f"{source}, converted to MLX with the recipe `{record['recipe']}`: "
        f"{record['bits_per_weight']:.2f} bits per weight, "
        f"{size(_total(record, 'bytes'))}. {read}"
    )


def _title(record: Mapping[str, Any]) -> str:
    name = record["source"].partition("@")[0].rpartition("/")[2]
    return f"{name}, MLX {record['recipe']}"


def _total(record: Mapping[str, Any], key: str) -> int:
    return sum(line[key] for line in record["classes"])


def _packing(record: Mapping[str, Any]) -> str:
    rows = [
        "| tensors | packing | weights | size | bits per weight |",
        "|---|---|---:|---:|---:|",
    ]
    for line in record["classes"]:
        rows.append(
            f"| {line['kind']} | {_packed(line)} | {line['params']:,} | "
            f"{size(line['bytes'])} | {line['bits_per_weight']:.2f} |"
        )
    rows.append(
        f"| all | | {_total(record, 'params'):,} | {size(_total(record, 'bytes'))} | "
        f"**{record['bits_per_weight']:.2f}** |"
    )
    refined = "\n\nIts scales were refined with DWQ." if record.get("refined") else ""
    return "\n".join(rows) + _grids(record) + refined


def _packed(line: Mapping[str, Any]) -> str:
    if line["bits"] is None:
        return line["dtype"].lower()
    return f"{line['mode']}, {line['bits']} bits, groups of {line['group_size']}"


def _grids(record: Mapping[str, Any]) -> str:
    """What became of trained grids, if there were any."""
    lines = [line for line in record["classes"] if line.get("grid")]
    groups = sum(line["groups"] for line in lines)
    if not groups:
        return ""
    exact = sum(line["on_grid_groups"] for line in lines)
    rest = groups - exact
    text = (
        "\n\nThe source was trained for this packing. "
        f"{100 * exact / groups:.2f} % of its {groups:,} groups are reproduced bit by "
        "bit"
    )
    return text + (f"; {rest:,} have the nearest grid instead." if rest else ".")


def _fidelity(config: Mapping[str, Any], fidelity: Mapping[str, Any] | None) -> str:
    if is_assistant(config.get("model_type")):
        return (
            "It cannot change what the model says. `gemma4 bench` measures how many of "
            "its tokens the model takes."
        )
    if fidelity is None:
        return (
            "Not measured. `gemma4 convert --check FOLDER --source-for-check SOURCE` "
            "compares the predictions of both models."
        )
    rows = (
        ("Kullback-Leibler divergence, mean", f"{fidelity['kl_mean']:.5f}"),
        ("… median", f"{fidelity['kl_median']:.5f}"),
        ("… 99th percentile", f"{fidelity['kl_p99']:.5f}"),
        ("same most probable token", f"{100 * fidelity['top1']:.2f} %"),
        ("perplexity of the source", f"{fidelity['perplexity_source']:.3f}"),
        ("perplexity of this model", f"{fidelity['perplexity_converted']:.3f}"),
    )
    return (
        f"Predictions of {fidelity['tokens']:,} tokens, compared with the source's. "
        "Divergences are in nats; zero is no difference.\n\n| | |\n|---|---:|\n"
        + "\n".join(f"| {name} | {value} |" for name, value in rows)
    )


def _use(config: Mapping[str, Any]) -> str:
    commands = [
        "gemma4 chat --model FOLDER          # mlx-gemma4",
        "mlx_lm.generate --model FOLDER …    # text",
    ]
    if len(_modalities(config)) > 1:
        commands.append("mlx_vlm.generate --model FOLDER …   # text, pictures, sound")
    if is_assistant(config.get("model_type")):
        commands = ["gemma4 chat --model MODEL --draft FOLDER"]
    return "```\n" + "\n".join(commands) + "\n```"
