"""What `gemma4 show` says of a model: of one that is here what its files state, of
another what is known of it without asking the Hub."""

import shutil
from dataclasses import asdict
from pathlib import Path

from mlx_gemma4.device import memory_limit
from mlx_gemma4.doctor.findings import Level
from mlx_gemma4.doctor.model import ModelReport, report_on
from mlx_gemma4.errors import ModelNotFoundError
from mlx_gemma4.hub.here import Held, held
from mlx_gemma4.hub.names import Variant, best_variant, candidates, licence, models
from mlx_gemma4.hub.resolve import local_folder
from mlx_gemma4.reading.sizes import size

from ..doctor.report import Section, laid_out, model_sections
from .default import kept_default
from .obtaining import exact_name, ways


def show(name: str) -> tuple[dict[str, object], list[str]]:
    """The same as JSON, and as lines. Raises ModelNotFoundError."""
    folder = local_folder(name)
    if folder is not None:
        return _here(exact_name(name), folder)
    if (variant := best_variant(name, memory_limit())) is None:
        raise ModelNotFoundError(
            f"{name} is not here. `gemma4 pull {name}` says what it is before anything "
            "is fetched."
        )
    return _offered(variant)


def _here(name: str, folder: Path) -> tuple[dict[str, object], list[str]]:
    found, listed = report_on(name, headers_only=True), _listed(name, folder)
    problems = [each.text for each in found.findings.all if each.level is Level.PROBLEM]
    value: dict[str, object] = {
        "name": name,
        "here": True,
        "folder": str(folder),
        "repo": listed and listed.repo,
        "bytes": listed and listed.nbytes,
        "default": name == kept_default(),
        "revision": found.revision,
        "summary": found.summary and asdict(found.summary),
        "memory": found.memory and asdict(found.memory),
        "drafter": found.drafter and str(found.drafter.folder),
        "problems": problems,
    }
    rows = _rows(found, listed)
    rows += [("problem", text) for text in problems]
    if name == kept_default():
        rows.append(("default", "yes"))
    # In one piece, however wide the terminal: it is there to be copied.
    return value, [*_laid_out(rows), f"  folder  {folder}"]


def _rows(found: ModelReport, listed: Held | None) -> list[tuple[str, str]]:
    rows = [row for row in model_sections(found)[0].rows if row[0] != "folder"]
    if listed is not None:
        origin = [("from", listed.repo)] if listed.repo else []
        rows[1:1] = [*origin, ("on disk", f"{size(listed.nbytes)}, {listed.place}")]
    for variant in candidates(found.name):
        rows.insert(1, ("is", variant.about))
    return rows


def _listed(name: str, folder: Path) -> Held | None:
    """The entry of `gemma4 list`; None of a folder of the user's own."""
    return next((each for each in held() if each.folder == folder), None)


def _offered(variant: Variant) -> tuple[dict[str, object], list[str]]:
    model, limit = models()[variant.name.partition(":")[0]], memory_limit()
    drafter, takes = size(model.drafter), variant.takes(limit)
    value: dict[str, object] = {
        "name": variant.name,
        "here": False,
        "repo": variant.repo,
        "fetched_bytes": variant.fetched,
        "kept_bytes": variant.kept,
        "memory_bytes": takes,
        "drafter_bytes": model.drafter,
        "fits": takes <= limit,
    }
    needs, fits = size(takes), "" if takes <= limit else ": too large"
    rows = [
        ("name", variant.name),
        ("is", ways(variant)),
        ("from", variant.repo),
        ("licence", licence()),
        ("takes", model.reads),
        ("memory", f"about {needs} with a conversation, of {size(limit)}{fits}"),
        ("drafter", f"{drafter} more: gemma4 pull {variant.name} --draft"),
        ("here", f"no: gemma4 pull {variant.name}"),
    ]
    if variant.warning is not None:
        rows.insert(2, ("warning", variant.warning))
    return value, _laid_out(rows)


def _laid_out(rows: list[tuple[str, str]]) -> list[str]:
    return laid_out([Section("model", rows)], shutil.get_terminal_size().columns)[1:-1]
