"""`gemma4 convert --check`: whether a converted folder is whole, and what it lost."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..models.obtaining import obtain
from ..progress import Progress
from ..render import Screen
from ..tables import columns

if TYPE_CHECKING:
    from mlx_gemma4.convert.check import Fidelity, Verified


def run_check(
    folder: Path, source: str | None, data: Path | None, screen: Screen, yes: bool
) -> None:
    """Checksums, shapes and values; predictions too if the source is given."""
    from mlx_gemma4.convert import check
    from mlx_gemma4.convert.card import CARD, RECORD, write_card
    from mlx_gemma4.convert.data import read_data
    from mlx_gemma4.hub.resolve import is_drafter, resolve

    folder = resolve(folder)
    original = None
    if source is not None and is_drafter(folder):
        raise UsageError(
            f"{folder} is a drafter, which has no predictions to compare: leave out "
            "--source-for-check."
        )
    if source is not None:
        original = resolve(obtain(source, screen, yes, to_chat=False))
    read = [file for file in folder.iterdir() if file.is_file()]
    if not (folder / RECORD).is_file():
        read = [file for file in read if file.suffix == ".safetensors"]
    total = sum(file.stat().st_size for file in read)
    with Progress(screen, "Checking", total, in_bytes=True) as bar:
        found = check.verify(folder, bar.advance)
    if not found.files:
        screen.note(
            f"Warning: {folder} has no {RECORD}, which `gemma4 convert` writes: its "
            "checksums are not known."
        )
    if not screen.as_json:
        print(f"{folder}: {verified_line(found)}")
    fidelity = None
    if original is not None:
        screen.passing("Comparing predictions …")
        try:
            tokens = read_data(data, original) if data else None
            fidelity = check.compare(original, folder, tokens=tokens)
        finally:
            screen.passed()
        if (folder / RECORD).is_file() and os.access(folder, os.W_OK):
            write_card(folder, fidelity.as_dict())
            screen.note(f"The figures are in {folder / CARD} now.")
        if not screen.as_json:
            print("\n".join(fidelity_lines(fidelity)))
    if screen.as_json:
        value: dict[str, object] = {"folder": str(folder), "verified": vars(found)}
        screen.json(value | ({"fidelity": fidelity.as_dict()} if fidelity else {}))


def verified_line(found: "Verified") -> str:
    tensors = f"{found.tensors:,} tensors"
    if found.files:
        return f"{found.files} files and {tensors} are as they were written."
    return f"{tensors} have the right shapes and finite values."


def fidelity_lines(found: "Fidelity") -> list[str]:
    """What was measured, one figure a line."""
    rows = (
        ("predictions compared", f"{found.tokens:,}"),
        ("KL divergence, mean", f"{found.kl_mean:.4f}"),
        ("KL divergence, median", f"{found.kl_median:.4f}"),
        ("KL divergence, 99th percentile", f"{found.kl_p99:.4f}"),
        ("same most likely token", f"{found.top1:.1%}"),
        ("perplexity of the source", f"{found.perplexity_source:.2f}"),
        ("perplexity of the conversion", f"{found.perplexity_converted:.2f}"),
    )
    return columns(rows)
