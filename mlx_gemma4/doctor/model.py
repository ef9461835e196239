"""All that is found out about one model, or about what was taken for one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from ..checkpoint.load import load_both
from ..errors import CheckpointError
from ..hub.refusals import beside
from ..hub.resolve import HUB_ID, local_folder
from ..reading.home import with_home
from ..reading.sizes import size
from .adapter import examine_adapter, is_adapter
from .drafter import DrafterFacts, examine_drafter
from .findings import Findings, Level
from .folder import FileFacts, files_in, revision_of
from .headers import examine
from .running import Run, prove
from .summary import Memory, Summary, memory_of, summary_of


class Kind(StrEnum):
    MODEL = "model"
    ADAPTER = "adapter"
    ABSENT = "not downloaded"


@dataclass
class ModelReport:
    """What `name` is, and how its checks came out.

    loads: whether it was loaded, or could be, as far as headers tell; of an adapter,
        whether nothing is wrong with it.
    """

    name: str
    kind: Kind
    folder: Path | None
    findings: Findings = field(default_factory=Findings)
    revision: str | None = None
    files: list[FileFacts] = field(default_factory=list)
    summary: Summary | None = None
    memory: Memory | None = None
    drafter: DrafterFacts | None = None
    adapter: dict[str, Any] | None = None
    loads: bool = False
    run: Run | None = None

    @property
    def fits(self) -> bool | None:
        """Whether the memory here is enough; None where that is not known."""
        return None if self.memory is None else self.memory.fits

    @property
    def works(self) -> bool:
        """Whether it loads and has no problem, as far as that was tried."""
        return self.loads and not self.findings.count(Level.PROBLEM)


def report_on(
    name: str, headers_only: bool, progress: Callable[[str], None] = lambda _: None
) -> ModelReport:
    """Examines a folder, a Hub id that is in the cache, or "demo"; loads nothing else.

    progress: told what is done next.

    Raises ModelNotFoundError for what is neither a folder nor a Hub id.
    """
    folder = _folder(name)
    if folder is None:
        return _absent(name)
    if is_adapter(folder):
        return _adapter(name, folder, headers_only)
    progress("Reading headers …")
    report = ModelReport(name, Kind.MODEL, folder, revision=revision_of(folder))
    report.files = files_in(folder, report.findings)
    found = examine(folder, report.findings)
    report.loads = found.loads
    say = report.findings
    report.summary = say.attempt("summary", partial(summary_of, found))
    if found.config is not None and found.plan is not None:
        count = partial(memory_of, found.config, found.plan)
        report.memory = say.attempt("memory", count)
    if report.memory is not None:
        _check_memory(report.memory, say)
    report.drafter = examine_drafter(folder, found.config, report.memory, say)
    if report.loads and report.fits and not headers_only:
        _run(report, folder, progress)
    return report


def _folder(name: str) -> Path | None:
    """Where the model is; None of one at the Hub. A folder may lack config.json."""
    try:
        return local_folder(name)
    except CheckpointError:
        return with_home(name)


def _absent(name: str) -> ModelReport:
    report = ModelReport(name, Kind.ABSENT, None)
    match = HUB_ID.fullmatch(name)
    repo = match["repo"] if match else name
    report.findings.problem(
        "files",
        f"{name} is no folder here, and not, or not whole, in the Hub's cache. "
        f"`gemma4 pull {name}` fetches it."
        f"{beside(repo)}",
    )
    return report


def _adapter(name: str, folder: Path, headers_only: bool) -> ModelReport:
    report = ModelReport(name, Kind.ADAPTER, folder)
    say = report.findings
    report.files = files_in(folder, say)
    report.adapter = examine_adapter(folder, headers_only, say)
    report.loads = not say.count(Level.PROBLEM)
    say.problem(
        "adapter",
        "It is an adapter, not a model: put it on its model with "
        f"`gemma4 chat --adapter {name}`.",
    )
    return report


def _check_memory(memory: Memory, say: Findings) -> None:
    weights, limit = size(memory.weights), size(memory.limit)
    if not memory.fits:
        say.warn(
            "memory",
            f"The weights take {weights}, but a model may use at most {limit} here: "
            "choose a smaller or more strongly quantised one.",
        )
    elif memory.weights + memory.full_context > memory.limit:
        say.warn(
            "memory",
            f"The weights take {weights} of {limit}: a full context does not fit "
            f"beside them, which takes {size(memory.full_context)} more.",
        )
    else:
        say.ok("memory", f"The weights take {weights} of {limit}.")


def _run(report: ModelReport, folder: Path, progress: Callable[[str], None]) -> None:
    progress("Loading …")
    loaded = report.findings.attempt("load", partial(load_both, folder))
    if loaded is None:
        report.loads = False
        return
    report.findings.ok("load", "The weights are read, and all of them are finite.")
    report.run = prove(*loaded, report.findings, progress)
