"""A report as text to be pasted, and as JSON."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlx_gemma4.doctor.drafter import DrafterFacts
from mlx_gemma4.doctor.findings import Finding, Findings
from mlx_gemma4.doctor.folder import FileFacts
from mlx_gemma4.doctor.machine import Machine
from mlx_gemma4.doctor.model import ModelReport
from mlx_gemma4.doctor.summary import Memory, Summary
from mlx_gemma4.reading.home import with_home
from mlx_gemma4.reading.sizes import size

from ..tables import count

Rows = Iterable[tuple[str, str]]
INDENT = GAP = "  "
NARROW = 60  # columns below which long names stand above what is said of them
WIDEST = 100
DIGITS = 16  # of a SHA-256 that are printed; --json has all
UNKNOWN, ABSENT = "not known", "not found"


@dataclass(frozen=True)
class Section:
    """A title, and names with what is said of each."""

    title: str
    rows: list[tuple[str, str]]


def machine_sections(machine: Machine, checks: Findings) -> list[Section]:
    environment = list(machine.environment.items())
    return [
        Section("versions", list(_versions(machine))),
        Section("machine", list(_machine(machine))),
        Section("folders", list(_folders(machine))),
        Section("environment", environment or [("nothing set", "")]),
        Section("checks", list(_findings(checks.all))),
    ]


def model_sections(model: ModelReport) -> list[Section]:
    return [
        Section("model", list(_model(model))),
        Section("files", [row for file in model.files for row in _file(file)]),
        Section("model checks", list(_findings(model.findings.all))),
    ]


def laid_out(sections: Iterable[Section], width: int) -> list[str]:
    """Lines, a blank one behind each section. What is said begins in one column, and is
    wrapped there, or below its name on a narrow terminal."""
    width = min(width, WIDEST)
    lines: list[str] = []
    for section in sections:
        if not section.rows:
            continue
        column = max(len(name) for name, _ in section.rows) + len(INDENT) + len(GAP)
        rows = [line for row in section.rows for line in _row(*row, column, width)]
        lines += [section.title, *rows, ""]
    return lines


def _row(name: str, text: str, column: int, width: int) -> list[str]:
    start = f"{INDENT}{name}".ljust(column)
    if len(start + text) <= width:
        return [(start + text).rstrip()]
    narrow = width < NARROW and column > width // 3
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=INDENT * 2 if narrow else start,
        subsequent_indent=INDENT * 2 if narrow else " " * column,
        break_on_hyphens=False,
    )
    return [f"{INDENT}{name}", *lines] if narrow else lines


def _versions(machine: Machine) -> Rows:
    for name, version in machine.versions.items():
        yield name, version or ABSENT
    for name, found in machine.programs.items():
        yield name, "found" if found else ABSENT


def _machine(machine: Machine) -> Rows:
    yield "system", machine.system
    cores = f", {machine.cores} cores" if machine.cores else ""
    yield "chip", f"{machine.chip or UNKNOWN} ({machine.arch}{cores})"
    yield "metal", "yes" if machine.metal else f"no: MLX uses the {machine.device}"
    yield "memory", _size(machine.memory)
    if machine.metal:
        yield "working set", f"{_size(machine.working_set)}, recommended by MLX"
        limit = machine.wired_limit
        yield "wired limit", "the system's own" if limit == 0 else _size(limit)
    if machine.container is not None:
        yield "container", f"{_size(machine.container)} of memory at the most"
    yield "disk", f"{_size(machine.disk_free)} free where models go"


def _folders(machine: Machine) -> Rows:
    yield "Hub cache", str(machine.hub_cache)
    yield "Hub token", "set" if machine.hub_token else "not set"
    yield "state", str(machine.state)
    if machine.metal:
        kinds = "1 kind" if machine.kernels == 1 else f"{machine.kernels or 'no'} kinds"
        yield "kernels", f"checked with {kinds} of models"


def _size(nbytes: int | None) -> str:
    return UNKNOWN if nbytes is None else size(nbytes)


def _findings(findings: Sequence[Finding]) -> Rows:
    for finding in findings:
        yield str(finding.level), f"{finding.about}: {finding.text}"


def _model(model: ModelReport) -> Rows:
    yield "name", model.name
    if model.folder is not None and model.folder != with_home(model.name):
        yield "folder", str(model.folder)
    if model.revision:
        yield "revision", model.revision
    for key, value in (model.adapter or {}).items():
        yield key.replace("_", " "), UNKNOWN if value is None else str(value)
    if model.summary is not None:
        yield from _summary(model.summary)
    if model.memory is not None:
        yield from _memory(model.memory)
    if (drafter := model.drafter) is not None:
        weights = f"{_size(drafter.weights)} of weights"
        yield "drafter", f"{weights}, in {drafter.folder}"


def _summary(summary: Summary) -> Rows:
    chats = {True: "", False: "; no chat template", None: ""}[summary.chats]
    yield "takes", f"{', '.join(summary.senses)}{chats}"
    experts = f", {summary.experts} experts" if summary.experts else ""
    yield "layers", f"{summary.layers}{experts}"
    yield "context", f"{summary.context:,} tokens"
    yield "vocabulary", f"{summary.vocabulary:,}"
    if summary.parameters is not None:
        total = count(sum(summary.parameters.values()))
        parts = (f"{name} {count(n)}" for name, n in summary.parameters.items())
        yield "weights", f"{total} ({', '.join(parts)})"
    if summary.packings is not None:
        parts = (f"{how}: {count(n)}" for how, n in summary.packings.items())
        yield "stored", "; ".join(parts)
    if summary.kernels is not None:
        yield "kernels", summary.kernels
    if summary.unused_tensors:
        yield "unused", f"{summary.unused_tensors:,} tensors that no layer reads"


def _memory(memory: Memory) -> Rows:
    less = f", {size(memory.weights - memory.table)} with --ple disk"
    told = f"{size(memory.weights)} of weights in {memory.dtype}"
    yield "memory", told + (less if memory.table else "")
    yield "full context", f"{size(memory.full_context)} more"
    yield "limit", f"{size(memory.limit)} for a model here"


def _file(file: FileFacts) -> Rows:
    nbytes = UNKNOWN if file.nbytes is None else f"{file.nbytes:,} bytes"
    if file.sha256 is None:
        yield file.name, nbytes
        return
    whose = file.known.whose if file.known else UNKNOWN
    yield file.name, f"{nbytes}, SHA-256 {file.sha256[:DIGITS]}…: {whose}"


def as_json(
    machine: Machine, checks: Findings, model: ModelReport | None
) -> dict[str, Any]:
    """Everything found; sizes in bytes."""
    about = asdict(machine)
    about |= {"hub_cache": str(machine.hub_cache), "state": str(machine.state)}
    return {
        "machine": {**about, "checks": [vars(each) for each in checks.all]},
        "model": None if model is None else _model_json(model),
    }


def _model_json(model: ModelReport) -> dict[str, Any]:
    return {
        "name": model.name,
        "kind": str(model.kind),
        "folder": None if model.folder is None else str(model.folder),
        "revision": model.revision,
        "files": [asdict(file) for file in model.files],
        "summary": model.summary and asdict(model.summary),
        "memory": model.memory and asdict(model.memory),
        "drafter": model.drafter and _drafter_json(model.drafter),
        "adapter": model.adapter,
        "run": model.run and asdict(model.run),
        "checks": [vars(each) for each in model.findings.all],
        "loads": model.loads,
        "fits": model.fits,
        "works": model.works if model.run is not None else None,
    }


def _drafter_json(drafter: DrafterFacts) -> dict[str, Any]:
    return {"folder": str(drafter.folder), "weights": drafter.weights}
