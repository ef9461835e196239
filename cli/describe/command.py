"""`gemma4 describe`: what is in pictures and videos, as text, JSON or drawn boxes."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mlx_gemma4.prompt.attachments import IMAGE_TOKENS

from .. import forms, options
from ..chat.setup import is_kept
from ..errors import InputError, UsageError, refuse_existing, reported
from ..files import MediaArgument, find_sources, split_prompt
from ..loading import warnings_noted
from ..logs.options import Log
from ..options import Panel
from ..render import Screen
from ..settings import Settings, takes_settings
from .describing import Describing

OCR_BUDGET = max(IMAGE_TOKENS)
NAME = "{name}"  # in --boxes: the picture's own name


@takes_settings
def describe(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE... [PROMPT]",
            help="Pictures or videos: files, quoted patterns, URLs, - for standard "
            "input. Last, what to ask; a word that looks like a path is none.",
            show_default=False,
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        Panel.TASK.option(
            "--prompt", "-p", help="What to ask, whatever it looks like."
        ),
    ] = None,
    model: options.Model = None,
    adapter: options.Adapter = None,
    ocr: Annotated[
        bool,
        Panel.TASK.option(
            "--ocr", help=f"Write down the text in pictures, at budget {OCR_BUDGET}."
        ),
    ] = False,
    boxes: Annotated[
        Path | None,
        Panel.TASK.option(
            "--boxes",
            metavar="OUT.png",
            help="Draw boxes round objects, or round those the prompt names, and "
            "print them as JSON in pixels. {name} in OUT is the picture's name.",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    each: Annotated[
        bool,
        Panel.TASK.option("--each", help="An answer for each file, not one for all."),
    ] = False,
    rows: options.Rows = options.ROWS,
    fps: Annotated[
        float | None,
        Panel.FILES.option(
            "--fps", min=0.001, max=1000, help="Frames to see per second of video."
        ),
    ] = None,
    frames: Annotated[
        int | None,
        Panel.FILES.option("--frames", min=1, help="Frames to see of a whole video."),
    ] = None,
    allow_url: Annotated[
        bool, Panel.FILES.option("--allow-url", help="Fetch URLs from the web.")
    ] = False,
    system: options.System = None,
    preset: options.Preset = None,
    *,
    settings: Settings,
    schema: forms.Schema = None,
    json_object: forms.JsonObject = False,
    regex: forms.Regex = None,
    grammar: forms.Grammar = None,
    show_thinking: options.ShowThinking = None,
    yes: options.Yes = False,
    plain: options.Plain = False,
    as_json: options.Json = False,
    stats: options.Stats = False,
    keep: Log = None,
) -> None:
    """Say what is in pictures and videos, or answer a question about them.

    Only answers are printed to stdout. With --each a file that is missing or cannot be
    read is reported, the others are still described, and the exit code is 5.

    Examples:
    gemma4 describe photo.jpg
    gemma4 describe before.jpg after.jpg "What changed?"
    gemma4 describe 'trip/*.jpg' --each --json
    gemma4 describe receipt.png --ocr
    gemma4 describe receipt.png --schema 'shop, total float, items str[]'
    gemma4 describe street.jpg "Find the bicycles." --boxes found.png
    """
    with reported(as_json):
        given = words or []
        names, asked = split_prompt(given) if prompt is None else (given, prompt)
        if settings.temperature is None and (ocr or boxes is not None):
            settings.temperature = 0.0  # exact, not inventive
        if settings.image_tokens is None and ocr:
            settings.image_tokens = OCR_BUDGET
        job = Describing(
            sources=find_sources(names, allow_url, go_on=each),
            prompt=asked,
            settings=settings,
            screen=Screen(show_thinking, as_json, not plain),
            system=system,
            ocr=ocr,
            each=each,
            rows=rows,
            show_stats=stats,
            keep=is_kept(keep, as_json),
            form=forms.read_form(schema, json_object, regex, grammar),
            video={"num_frames": frames} if frames else {"fps": fps} if fps else {},
        )
        if fps and frames:
            raise UsageError("Choose one of --fps and --frames.")
        check(job, boxes)
        if boxes is not None:
            job.targets = targets(job.sources, boxes, overwrite)
        with warnings_noted(job.screen):
            code = job.run(model, adapter, yes)
    if code:
        raise typer.Exit(code)


def check(job: Describing, boxes: Path | None) -> None:
    """Finds what cannot work before a model is loaded. Raises UsageError."""
    kinds = [source.known_kind for source in job.sources]
    if not kinds:
        raise UsageError("Name a picture: gemma4 describe photo.jpg")
    if job.prompt is not None and not job.prompt.strip():
        raise UsageError("The prompt is empty. Leave it out, or ask something.")
    job.settings.check()
    if job.settings.image_tokens is not None and set(kinds) == {"video"}:
        raise UsageError(
            "--budget and --ocr are for pictures; how much of a video is seen, --fps "
            "and --frames say."
        )
    still = not any(source.moves() for source in job.sources if job.video)
    if job.video and set(kinds) == {"image"} and still:
        raise UsageError("--fps and --frames are for videos; only pictures are named.")
    if boxes is None:
        return
    if job.form:
        raise UsageError("--boxes has a form of its own: leave the other out.")
    if job.ocr:
        raise UsageError("Choose one of --ocr and --boxes.")
    if "video" in kinds:
        raise UsageError("--boxes draws on pictures, not on videos.")
    if len(kinds) > 1 and not (job.each and NAME in boxes.name):
        raise UsageError(
            f"Boxes in {len(kinds)} pictures need --each and a name for every picture: "
            "--each --boxes 'boxes-{name}.png'"
        )


def targets(
    sources: list[MediaArgument], pattern: Path, overwrite: bool = False
) -> list[Path]:
    """Where each picture's boxes are drawn. Raises UsageError or InputError."""
    from .drawing import check_target

    taken: dict[Path, MediaArgument] = {}
    for source in sources:
        # Path.expanduser would raise for a ~user who does not exist.
        target = Path(os.path.expanduser(pattern))
        check_target(target)
        target = target.with_name(target.name.replace(NAME, source.stem))
        check_target(target)
        if target in taken:
            raise UsageError(
                f"{taken[target].name} and {source.name} would both be drawn in "
                f"{target}."
            )
        taken[target] = source
    for source in sources:
        for target in taken:
            if source.is_file(target):
                raise InputError(
                    f"{target} is one of the pictures and would be overwritten. Choose "
                    "another name."
                )
    for target in taken:
        if not overwrite:
            refuse_existing(target)
    return list(taken)
