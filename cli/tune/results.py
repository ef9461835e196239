"""What is done with a finished adapter: measured, fused, or written for others."""

import os
from contextlib import closing
from pathlib import Path

from mlx_gemma4.hub.resolve import resolve
from mlx_gemma4.reading.home import with_home
from mlx_gemma4.tune.adapter_files import CONFIG, PEFT_WEIGHTS, WEIGHTS
from mlx_gemma4.tune.adapters import put_on
from mlx_gemma4.tune.base import weights_digest
from mlx_gemma4.tune.evaluate import evaluate
from mlx_gemma4.tune.examples import Encoder, Long
from mlx_gemma4.tune.files import read_records
from mlx_gemma4.tune.folders import (
    Hold,
    check_folder,
    finish_saving,
    make_folder,
    together,
)
from mlx_gemma4.tune.formats import write_adapter
from mlx_gemma4.tune.fuse import fuse
from mlx_gemma4.tune.peft import write_peft
from mlx_gemma4.tune.replacing import check_ours
from mlx_gemma4.tune.runs import BASE, RESUME

from ..errors import UsageError, refuse_existing
from ..loading import name_for, open_adapter, open_model, saved_name
from ..render import Screen
from .views import report_lines


def evaluate_adapter(
    data: Path,
    name: str | None,
    adapter: Path | None,
    reading: tuple[int, Long, int | None],
    screen: Screen,
    yes: bool = False,
) -> None:
    """The model alone, then with the adapter, on the same examples."""
    records = read_records(data)
    if adapter is not None:
        name = name_for(adapter, name)
    model, processor, name = open_model(name, screen, kernels=False, yes=yes)
    loaded = None if adapter is None else open_adapter(adapter, model, name, screen)
    encoder = Encoder(processor, *reading)
    found = encoder.encode(records)
    if found.skipped or found.cut:
        changed = f"{found.skipped} left out, {found.cut} cut"
        screen.note(f"Too long: {changed} (--max-length {reading[0]}).")
    screen.passing("Reading with the model alone …")
    reports = {"base": evaluate(model, encoder, found.examples)}
    screen.passed()
    if loaded is not None:
        put_on(model, loaded)
        screen.passing("Reading with the adapter …")
        reports["adapter"] = evaluate(model, encoder, found.examples)
        screen.passed()
    if screen.as_json:
        values = {key: report.as_dict() for key, report in reports.items()}
        screen.json({"model": name, **values})
    else:
        print("\n".join(report_lines(reports)), flush=True)


def fuse_adapter(
    adapter: Path,
    out: Path,
    name: str | None,
    form: str,
    screen: Screen,
    overwrite: bool = False,
    yes: bool = False,
) -> None:
    out = with_home(out)
    held = Path(os.path.realpath(with_home(adapter)))
    if Path(os.path.realpath(out)) in (held, *held.parents):
        raise UsageError(f"{out} holds the adapter, {adapter}: name another folder.")
    if out.is_dir() and any(out.iterdir()):
        check_ours(out)
        if not overwrite:
            refuse_existing(out)
    name = name_for(adapter, name)
    model, _, name = open_model(name, screen, kernels=False, yes=yes)
    loaded = open_adapter(adapter, model, name, screen)
    fuse(model, loaded, resolve(name), out, form, overwrite)
    tell(out, f"{name} with {adapter} as {form}", screen)


def export_adapter(
    adapter: Path,
    out: Path,
    name: str | None,
    form: str,
    screen: Screen,
    overwrite: bool = False,
    yes: bool = False,
) -> None:
    out = with_home(out)
    check_folder(out)
    if out.is_dir() and with_home(adapter).is_dir() and out.samefile(adapter):
        raise UsageError(f"{out} is the adapter itself: name another folder.")
    finish_saving(out)
    if (out / RESUME).exists():
        raise UsageError(f"{out} holds a run of its own: name another folder.")
    files = [out / each for each in (WEIGHTS, PEFT_WEIGHTS, CONFIG)]
    if not overwrite:
        for file in files:
            refuse_existing(file)
    name = name_for(adapter, name)
    model, _, name = open_model(name, screen, kernels=False, yes=yes)
    loaded = open_adapter(adapter, model, name, screen)
    make_folder(out)
    with closing(Hold(out)) as hold:
        hold.take()
        with together(out) as work:
            if form == "peft":
                write_peft(work, model, loaded, saved_name(name))
            else:
                weights = weights_digest(resolve(name))
                about = {"model": saved_name(name), BASE: weights}
                write_adapter(work, model, loaded, about)
        other = WEIGHTS if form == "peft" else PEFT_WEIGHTS
        (out / other).unlink(missing_ok=True)  # of what was replaced
    tell(out, f"{adapter} for {'PEFT' if form == 'peft' else 'mlx-lm'}", screen)


def tell(out: Path, what: str, screen: Screen) -> None:
    if screen.as_json:
        screen.json({"folder": str(out)})
    else:
        print(f"{out}: {what}.", flush=True)
