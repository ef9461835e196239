"""`gemma4 batch`: a file of questions to a file of answers."""

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from mlx_gemma4.hub.names import DEMO
from mlx_gemma4.reading.home import with_home

from .. import forms, options
from ..errors import InputError, UsageError, batch_code, no_file, reported
from ..files import STDIN
from ..inputs import check_stdin_ends, read_tools
from ..loading import name_for, open_model, saved_name, warnings_noted
from ..models.default import usable_default
from ..options import Panel
from ..render import Screen
from ..settings import Settings, takes_settings
from ..tools import options as tool_options
from .again import beside

if TYPE_CHECKING:
    from ..serve.media import MediaRules


@takes_settings
def batch(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN.jsonl",
            help="A JSON object a line, with messages or a prompt; - is standard "
            "input.",
            show_default=False,
        ),
    ],
    model: options.Model = None,
    adapter: options.Adapter = None,
    system: options.System = None,
    preset: options.Preset = None,
    rows: options.Rows = options.ROWS,
    *,
    settings: Settings,
    schema: forms.Schema = None,
    json_object: forms.JsonObject = False,
    regex: forms.Regex = None,
    grammar: forms.Grammar = None,
    tools: options.Tools = None,
    strict_tools: tool_options.Strict = False,
    allow_url: Annotated[
        bool, Panel.FILES.option("--allow-url", help="Fetch URLs from the web.")
    ] = False,
    yes: options.Yes = False,
    output: Annotated[
        Path | None,
        Panel.OUTPUT.option(
            "--output",
            "-o",
            metavar="OUT.jsonl",
            help="Write the answers here, and go on with those that are. Default: "
            "standard output.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, Panel.OUTPUT.option("--overwrite", help="Begin OUT.jsonl anew.")
    ] = False,
    retry: Annotated[
        bool,
        Panel.OUTPUT.option(
            "--retry", help="Ask again what has an error in OUT.jsonl."
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Answer a file of questions, several at once, in its order.

    A line is a JSON object: {"prompt": "Who wrote Emma?"}, {"messages": […]}, or a
    line of OpenAI's batch files. It may state an "id", and what else the options here
    set for all lines. What fails is told in its answer, and the exit code is 5.
    After a stop the same command goes on where it was; --retry asks failures again.

    Examples:
    gemma4 batch questions.jsonl -o answers.jsonl
    gemma4 batch questions.jsonl -o answers.jsonl --rows 16 --max-tokens 500
    gemma4 batch reviews.jsonl -o stars.jsonl --schema 'stars int, why'
    jq -c '{prompt: .text}' notes.json | gemma4 batch - | jq -r .text
    """
    with reported(as_json):
        settings.check()
        screen = Screen(as_json=as_json)
        form = forms.read_form(schema, json_object, regex, grammar)
        declared = read_tools(tools) if tools else None
        if strict_tools:
            forms.check_calls(declared or [])
        path = None if output is None or str(output) == STDIN else with_home(output)
        for option, given in (("--overwrite", overwrite), ("--retry", retry)):
            if given and path is None:
                raise UsageError(f"{option} is for the file that -o names.")
        name = name_for(adapter, model) if adapter else model
        name = saved_name(name or usable_default() or DEMO)
        from .answers import Answers, options_digest
        from .job import Job
        from .lines import read_lines, rewindable
        from .request import Defaults

        called = "standard input" if source == STDIN else source
        given = (name, adapter and adapter.resolve(), system, form, declared)
        digest = options_digest(settings, *given, strict_tools)
        made = {**settings.options, **form, "tools": declared}
        made["strict_tools"] = strict_tools
        with (
            opened(source, path) as given_lines,
            rewindable(given_lines) if retry else given_lines as stream,
            closing(Answers(path, digest, screen, overwrite, retry)) as answers,
            warnings_noted(screen),
        ):
            if retry:  # answers that fit no line are told before any is replaced
                begin = stream.tell()
                answers.check(read_lines(stream, called), called)
                stream.seek(begin)
            job = Job(
                name=called,
                lines=read_lines(stream, called),
                bytes=length(stream),
                answers=answers,
                defaults=Defaults(made, system, rules(source, allow_url)),
                screen=screen,
                rows=rows,
            )
            if job.begin():
                how = settings.loading
                job.run(*open_model(model, screen, adapter, yes=yes, **how))
        code = batch_code(answers.codes, answers.done)
    if code:
        raise typer.Exit(code)


def opened(source: str, output: Path | None) -> BinaryIO:
    """The file of questions, or standard input. Raises InputError and UsageError."""
    if source == STDIN:
        if sys.stdin.isatty():
            raise UsageError("Nothing is piped in: gemma4 batch - < questions.jsonl")
        check_stdin_ends()
        return sys.stdin.buffer
    path = with_home(source)
    if not os.path.exists(path):
        raise no_file(source)
    for file in () if output is None else (output, beside(output)):
        if os.path.exists(file) and path.samefile(file):
            raise UsageError(f"{file} would be read and written: name another file.")
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"Cannot read {source}: {error.strerror}.") from None


def length(stream: BinaryIO) -> int:
    """Bytes of a file; 0 of what does not say."""
    try:
        return os.fstat(stream.fileno()).st_size
    except OSError:  # as io.UnsupportedOperation is
        return 0


def rules(source: str, allow_url: bool) -> "MediaRules":
    """Media are named from where the questions are; any file may be."""
    from ..serve.media import MediaRules

    base = Path() if source == STDIN else with_home(source).parent
    return MediaRules((Path("/"),), allow_url, base)
