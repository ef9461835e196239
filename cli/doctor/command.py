"""`gemma4 doctor`: this machine and a model, for oneself and for bug reports."""

import os
import shutil
from typing import Annotated

import typer

from .. import options
from ..errors import UsageError, reported
from ..render import Screen
from ..usage import names


def otherwise(context: typer.Context, name: str | None) -> str | None:
    """That of the configuration counts after the others."""
    first = context.params.get("model") or os.environ.get("GEMMA4_MODEL")
    return None if first and options.is_configured(context, "named") else name


Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="A folder, a Hub id (owner/name) that has been downloaded, or demo.",
        show_default=False,
        autocompletion=names.models,
    ),
]
Named = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        callback=otherwise,
        autocompletion=names.models,
        help="The same, as in chat.",
        rich_help_panel=options.Panel.MODEL,
    ),
]
Headers = Annotated[
    bool,
    typer.Option(
        "--headers",
        help="Check a model's files without reading its weights.",
        rich_help_panel=options.Panel.MODEL,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object; notes and errors too.",
        rich_help_panel=options.Panel.OUTPUT,
    ),
]


def doctor(
    model: Model = None,
    named: Named = None,
    headers: Headers = False,
    as_json: Json = False,
) -> None:
    """Examine this machine and a model, to paste into a bug report.

    A model's files are checked strictly, then it is loaded and shown pictures and
    sounds, to see that they reach it; without MODEL it is the one that GEMMA4_MODEL or
    the configuration names, if any. Nothing is downloaded. The exit code is 0 only if
    the model would load. Home folders are written as ~; no token is ever printed.

    Examples:
    gemma4 doctor
    gemma4 doctor e4b --headers
    """
    with reported(as_json):
        if model is not None and named is not None:
            raise UsageError("Name one model, with --model or without.")
        model = model or named or os.environ.get("GEMMA4_MODEL") or None
        if headers and model is None:
            raise UsageError("--headers needs a MODEL, whose files it checks.")
        code = run(model, headers, Screen(as_json=as_json))
    if code:
        raise typer.Exit(code)


def run(name: str | None, headers_only: bool, screen: Screen) -> int:
    """Prints the report; returns the exit code."""
    from mlx_gemma4.doctor.fitness import check_machine
    from mlx_gemma4.doctor.machine import Machine
    from mlx_gemma4.doctor.model import report_on

    from . import report
    from .outcome import exit_code, verdict
    from .private import Private

    def progress(text: str) -> None:
        screen.passed()
        screen.passing(text)

    try:
        model = None if name is None else report_on(name, headers_only, progress)
    finally:
        screen.passed()
    machine = Machine.here()
    checks = check_machine(machine)
    said, code = verdict(checks, model), exit_code(checks, model, headers_only)
    private = Private()
    if screen.as_json:
        found = report.as_json(machine, checks, model)
        screen.json(private.value({**found, "verdict": said, "exit_code": code}))
        return code
    sections = report.machine_sections(machine, checks)
    if model is not None:
        sections += report.model_sections(model)
    clean = [report.Section(each.title, private.rows(each.rows)) for each in sections]
    lines = report.laid_out(clean, shutil.get_terminal_size().columns)
    print("\n".join([*lines, f"verdict: {said}"]))
    return code
