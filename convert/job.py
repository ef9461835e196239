"""A whole conversion: survey, stream, finish; or go on with one that was stopped."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx

from mlx_gemma4.checkpoint.companions import files_to_copy
from mlx_gemma4.checkpoint.copies import check_copies
from mlx_gemma4.checkpoint.files import StoredTensor, read_tensors, weight_files
from mlx_gemma4.checkpoint.folders import check_inside
from mlx_gemma4.checkpoint.shards import SHARD_BYTES, lay_out

from . import output, qat
from .journal import fingerprints, open_journal
from .plan import Plan
from .reader import Reader
from .stream import BLOCK, Advance, as_array, convert
from .survey import Wishes, make_plan
from .writer import explained

SAMPLED = 2**17  # weights of a tensor: thousands of groups


@dataclass(frozen=True)
class Result:
    """plan: as carried out. complete_before: nothing had to be done."""

    plan: Plan
    folder: Path
    on_grid: int = 0
    groups: int = 0
    complete_before: bool = False
    resumed: bool = False


def plan_folder(source: Path, wishes: Wishes, name: str) -> Plan:
    """The plan of a folder, with what its files are warned of; samples of QAT weights
    are measured.

    Raises CheckpointError, also for files that are links out of the folder, and where
    the result could not be used: its tokenizer is that of another model, its chat
    template is empty, and the like.
    """
    check_inside(source, output.CONFIG)
    files_to_copy(source)  # what is wrong with them is said before the work
    warnings = output.check_files(source)
    config = json.loads((source / output.CONFIG).read_text(encoding="utf-8"))
    reader = Reader()

    def sample(tensor: StoredTensor) -> float:
        rows = math.prod(tensor.shape[:-1])
        count = min(rows, max(1, SAMPLED // tensor.shape[-1]))
        # From the middle: the first rows of a table belong to unused tokens.
        raw = reader.rows(tensor, (rows - count) // 2, count, rows)
        return qat.grid_share(as_array(raw, tensor)).on_grid

    try:
        plan = make_plan(read_tensors(source), config, wishes, name, sample)
        return replace(plan, warnings=(*plan.warnings, *warnings))
    finally:
        reader.close()


def run(
    source: Path,
    out: Path,
    plan: Plan,
    name: str,
    advance: Advance,
    *,
    block_bytes: int = BLOCK,
    shard_bytes: int = SHARD_BYTES,
    note: Callable[[str], None] = lambda text: None,
) -> Result:
    """Carries out `plan` for the folder `source`; goes on where an earlier run stopped.

    name: of the source, for the record. note: told that a run is continued.
    Raises CheckpointError, TakenError and OutputError.
    """
    files = fingerprints(weight_files(source))
    if output.is_result(out, plan, files):
        shutil.rmtree(output.partial(out), ignore_errors=True)
        return Result(plan, out, complete_before=True)
    output.check_out(out)
    output.check_space(out, plan.out_bytes)
    check_copies(plan.copies)
    work = output.partial(out)
    with explained(work):
        (work / "model").mkdir(parents=True, exist_ok=True)
        journal = open_journal(work, plan, files, name)
    try:
        if journal.resumed:
            note(f"Going on with {work}.")
        groups = [tensor.all_targets for tensor in plan.tensors]
        shards = lay_out(groups, "mlx", shard_bytes)
        with explained(work):
            convert(plan, shards, work / "model", journal, advance, block_bytes)
        record = {
            "source": name,
            "source_digests": {file: print_[2] for file, print_ in files.items()},
        }
        output.finish(source, out, plan, shards, journal, record)
        done = journal.tensors.values()
        return Result(
            plan,
            out,
            on_grid=sum(tensor.on_grid for tensor in done),
            groups=sum(tensor.groups for tensor in done),
            resumed=journal.resumed,
        )
    finally:
        journal.close()
        mx.clear_cache()
