"""Pictures, recordings, videos and texts that go with the next message of a chat.

A file is read once, here: what is wrong with it is said at once, and later changes to
it change nothing.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_gemma4.errors import MediaError
from mlx_gemma4.reading.listing import listed

from ..errors import UsageError
from ..loading import warnings_noted
from ..media_formats import kind_of_file
from ..model_senses import has_sense, require_sense
from .messages import Part, media_of
from .paths import bare_media, path_of, take_paths
from .texts import Use, is_pdf, read_text_part, unusable, use_of

if TYPE_CHECKING:
    from mlx_gemma4 import Processor

    from ..chat.session import Session

NamedFile = tuple[Use, Path]


def attach(
    session: "Session",
    named: Iterable[NamedFile],
    say: bool = True,
    track: int | None = None,
) -> None:
    """Puts files to the next message, all of them or none, and says so.

    One that waits for it already is read anew and keeps its place. track: which sound
    track of the recordings.
    Raises UsageError if the model cannot take them, MediaError if one cannot be read.
    """
    chat, screen = session.chat, session.screen
    parts = []
    files = list(named)
    for kind, _ in files:
        require_sense(chat.model.config, session.model_name, kind)
    check_fits(session, files, track)
    for kind, path in files:
        screen.passing(f"Reading {path.name} …")
        try:
            with warnings_noted(screen):
                budget = chat.settings.image_tokens
                part = read_part(chat.processor, kind, path, budget, track)
                parts.append(part)
        finally:
            screen.passed()
    for part in parts:
        put(session, part, say)
        if say and part["type"] == "image":
            screen.preview(Path(part["path"]))


def check_fits(session: "Session", files: list[NamedFile], track: int | None) -> None:
    """Raises an error for what will not fit into the conversation, before it is read:
    RoomError, ContextError or MediaError."""
    chat = session.chat
    parts: list[Part] = [p for p in chat.attached if p["type"] != "file"]
    for kind, path in files:
        part: Part = {"type": kind, kind: path, "path": str(path), "track": track}
        if kind != "file":
            parts = [*(p for p in parts if not same_file(p, part)), part]
    chat.check_media(parts, chat.settings.options)


def same_file(part: Part, other: Part) -> bool:
    """Whether one takes the place of the other."""
    return all(other.get(key) == part.get(key) for key in ("type", "path", "track"))


def put(session: "Session", part: Part, say: bool) -> None:
    """Puts one part to the next message, in place of the same file if it waits too.

    The latter is always said.
    """
    attached, note = session.chat.attached, f"attached {part['label']}"
    for n, other in enumerate(attached):
        if same_file(part, other):
            attached[n] = part
            session.screen.note(f"{note}, in place of the one from before")
            return
    attached.append(part)
    if say:
        session.screen.note(note)


def take_dropped(session: "Session", text: str) -> str:
    """Attaches the files that a message names; returns the message without them.

    A file that the model cannot take stays in the message, if there is more in it, and
    so does a word that looks like a path and is none; both are said.
    """
    if not session.attach_named:
        return text
    config, screen = session.chat.model.config, session.screen
    taken = take_paths(text)
    named = with_uses(taken.files)
    beyond = [(use, path) for use, path in named if not has_sense(config, use)]
    if beyond and taken.rest:
        taken = take_paths(text, leave=[path for _, path in beyond])
        named = [each for each in named if each not in beyond]
    attach(session, named)
    for use, path in beyond:
        sense = "hear" if use == "audio" else "see"
        screen.note(
            f"{session.model_name} cannot {sense}: {path.name} is sent as text."
        )
    parts = [part for message in session.chat.messages for part in media_of(message)]
    known = {part.get("path") for part in (*parts, *session.chat.attached)}
    bare = [
        f"{word} (./{word} attaches it)"
        for word in bare_media(taken.rest)
        if str(path_of(word)) not in known
    ]
    if taken.missing or bare:
        screen.note(f"Sent as words: {listed([*taken.missing, *bare])}")
    return taken.rest


def refuse_other_kind(kind: Use, path: Path, sign: str) -> None:
    """Raises UsageError for a path that names another kind of medium.

    Of a video the sound can be heard, and an animation can be seen as a video.
    `sign` is what goes before the kind that would be right: / or --.
    """
    known = kind_of_file(path)
    allowed = (kind, "video" if kind == "audio" else "image" if kind == "video" else "")
    if known is not None and known not in allowed:
        wanted = {"image": "picture", "audio": "recording"}.get(kind, kind)
        raise UsageError(f"{path.name} is no {wanted}: attach it with {sign}{known}.")


def read_part(
    processor: "Processor",
    kind: Use,
    path: Path,
    image_tokens: int | None = None,
    track: int | None = None,
) -> Part:
    """A file as a part of a message. Raises MediaError that names it."""
    if kind == "file":
        return read_text_part(path)
    source, detail = opened(processor, kind, path, track)
    try:
        medium = processor.prepare({"type": kind, kind: source}, image_tokens)
    except MediaError as error:
        if str(path) in str(error):
            raise
        raise MediaError(f"{path.name}: {error}") from None
    if not detail:
        count = len(medium.attached)
        name = "frame" if kind == "video" else "page"
        detail = f"1 {name}" if count == 1 else f"{count} {name}s"
    label = f"{path.name} ({kind}, {detail})"
    part: Part = {"type": kind, "path": str(path), "label": label, kind: medium}
    if kind == "image":  # what a saved conversation reads it with again
        part["image_tokens"] = image_tokens
    if kind == "audio" and track is not None:
        part["track"] = track
    return part


def opened(
    processor: "Processor", kind: str, path: Path, track: int | None
) -> tuple[Any, str]:
    """What the library takes for a file, and what the user wants to know of it."""
    if kind == "image":
        from mlx_gemma4.vision.pages import open_pages

        pages = open_pages(path)
        picture, several = next(pages), next(pages, None) is not None
        pages.close()
        if not several:
            return picture, f"{picture.width}x{picture.height}"
    if kind == "audio":
        from mlx_gemma4.audio.files import read_audio

        rate = processor.media.audio.sampling_rate
        samples = read_audio(path, rate, track)
        chosen = f", track {track}" if track is not None else ""
        return (samples, rate), f"{len(samples) / rate:.1f} s{chosen}"
    return path, ""


def with_uses(paths: Iterable[Path]) -> list[NamedFile]:
    """Each path with how a message takes it; a PDF without any text as pictures.

    Raises InputError for what it cannot take.
    """
    return [(_use(path), path) for path in paths]


def _use(path: Path) -> Use:
    use = use_of(path)
    if use is None:
        raise unusable(path)
    if use == "file" and is_pdf(path):
        from mlx_gemma4.vision.pages import pdf_texts

        return "file" if any(pdf_texts(path)) else "image"
    return use
