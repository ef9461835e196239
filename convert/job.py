"""A whole conversion: survey, stream, finish; or go on with one that was stopped."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_gemma4.checkpoint.copies import check_copies
from mlx_gemma4.checkpoint.folders import check_inside, files_to_copy
from mlx_gemma4.checkpoint.shards import SHARD_BYTES, lay_out

from . import output, qat
from .blocks import BLOCK
from .journal import Journal, begun, open_journal
from .plan import Plan, TensorPlan
from .source import Source, compare_at_hub, local, measured
from .stream import Advance, convert
from .survey import Wishes, make_plan
from .writer import explained


@dataclass(frozen=True)
class Result:
    """plan: as carried out. complete_before: nothing had to be done."""

    plan: Plan
    folder: Path
    on_grid: int = 0
    groups: int = 0
    complete_before: bool = False
    resumed: bool = False


def plan_folder(folder: Path, wishes: Wishes, name: str) -> Plan:
    """`plan_source` of a folder."""
    return plan_source(local(folder), wishes, name)


def plan_source(
    source: Source, wishes: Wishes, name: str, measure: bool = True
) -> Plan:
    """The plan of a checkpoint, with what its files are warned of.

    measure: whether samples of QAT weights are read; else the name is trusted.
    Raises CheckpointError, also for files that are links out of the folder, and where
    the result could not be used: its tokenizer is that of another model, its chat
    template is empty, and the like.
    """
    folder = source.folder
    check_inside(folder, output.CONFIG)
    files_to_copy(folder)  # what is wrong with them is said before the work
    warnings = output.check_files(folder)
    config = json.loads((folder / output.CONFIG).read_text(encoding="utf-8"))
    layout = qat.recognise(source.tensors, config, name)
    shares = measured(source) if measure and layout == qat.Q4_0 else None
    sample = None if shares is None else lambda tensor: shares[tensor.name]
    plan = make_plan(source.tensors, config, wishes, name, sample)
    return replace(plan, warnings=(*plan.warnings, *warnings))


def left_to_do(plan: Plan, out: Path) -> list[TensorPlan]:
    """What an earlier run towards `out` has not done."""
    before = begun(output.partial(out))
    done = before.tensors if before else frozenset[str]()
    return [tensor for tensor in plan.tensors if tensor.name not in done]


def to_fetch(plan: Plan, source: Source, out: Path) -> int:
    """Bytes that `run` will read from the Hub."""
    todo = left_to_do(plan, out)
    stored = (each for tensor in todo for each in tensor.sources.values())
    return sum(each.nbytes for each in stored if each.file in source.at_hub)


def run(
    source: Path | Source,
    out: Path,
    plan: Plan,
    name: str,
    advance: Advance,
    *,
    block_bytes: int = BLOCK,
    shard_bytes: int = SHARD_BYTES,
    note: Callable[[str], None] = lambda text: None,
    choice: Mapping[str, Any] | None = None,
) -> Result:
    """Carries out `plan` for `source`; goes on where an earlier run stopped.

    name: of the source, for the record. advance: told of the bytes of `left_to_do` as
    they are done. note: told that a run is continued, and of lost connections.
    choice: what it was chosen by, for the record.

    Raises CheckpointError, TakenError and OutputError; ModelNotFoundError where the
    Hub is out of reach.
    """
    if isinstance(source, Path):
        source = local(source)
    files = source.fingerprints()
    if output.is_result(out, plan, files):
        shutil.rmtree(output.partial(out), ignore_errors=True)
        return Result(plan, out, complete_before=True)
    output.check_out(out)
    output.check_space(out, plan.out_bytes)
    if not source.at_hub:
        check_copies(plan.copies)
    work = output.partial(out)
    with explained(work):
        (work / "model").mkdir(parents=True, exist_ok=True)
        journal = open_journal(work, plan, files, name, source.commit)
    try:
        if journal.resumed:
            note(f"Going on with {work}.")
        if source.at_hub:
            compare_at_hub(plan.copies, source, journal, note)
        groups = [tensor.all_targets for tensor in plan.tensors]
        shards = lay_out(groups, "mlx", shard_bytes)
        with explained(work):
            reader = source.reader(note)
            convert(plan, shards, work / "model", journal, advance, reader, block_bytes)
        digests = {file: print_[2] for file, print_ in files.items()}
        record: dict[str, Any] = {"source": name, "source_digests": digests}
        record |= {} if choice is None else {"choice": choice}
        output.finish(source.folder, out, plan, shards, journal, record)
        return _result(plan, out, journal)
    finally:
        journal.close()
        mx.clear_cache()


def _result(plan: Plan, out: Path, journal: Journal) -> Result:
    done = journal.tensors.values()
    return Result(
        plan,
        out,
        on_grid=sum(tensor.on_grid for tensor in done),
        groups=sum(tensor.groups for tensor in done),
        resumed=journal.resumed,
    )
