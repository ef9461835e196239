"""Names on the command line to pictures and videos: files, patterns, stdin, URLs."""

import difflib
import glob
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_gemma4.errors import MediaError, UnknownFormatError
from mlx_gemma4.media import Kind
from mlx_gemma4.reading.bounded import read_bytes
from mlx_gemma4.reading.sources import MOST, find_alike, is_url

from .errors import InputError, UsageError, no_file
from .inputs import read_piped_bytes
from .media_formats import START, first_of, format_of, kind_of, kind_of_content

if TYPE_CHECKING:
    from PIL.Image import Image

STDIN = "-"
READABLE = "Known are png, jpeg, webp, heic, mp4, mov, webm and more."
LONGEST_SEARCH = 60.0  # seconds for the files of a pattern
SUFFIX = re.compile(r"\.[A-Za-z0-9]{2,5}$")


def media_kind(source: Path | bytes, name: str) -> Kind:
    """What kind of medium a file is: by content, else by suffix.

    Raises MediaError that calls the file `name` and says what can be read.
    """
    start = source[:START] if isinstance(source, bytes) else first_bytes(source, name)
    form = format_of(start)
    named = kind_of(source) if isinstance(source, Path) else None
    if form is not None and form.kind is None:
        raise MediaError(f"{name} is {form.name}, not a picture or video. {READABLE}")
    if known := kind_of_content(start, named):
        return known
    from mlx_gemma4.vision.images import open_image

    try:
        open_image(source)
    except UnknownFormatError:
        raise MediaError(f"{name} is not a picture or video. {READABLE}") from None
    except MediaError as error:
        raise MediaError(with_name(name, str(error))) from None
    return "image"


def first_bytes(path: Path, name: str) -> bytes:
    try:
        return first_of(path)
    except OSError as error:
        raise MediaError(f"{name} cannot be read: {error.strerror}.") from None


def with_name(name: str, message: str) -> str:
    """An error of the library, which does not know where bytes came from."""
    return message if name in message else f"{name}: {message}"


@dataclass(frozen=True)
class MediaArgument:
    """One picture or video as the user named it: a path, - or a URL.

    problem: why it cannot be read, where its name already tells.
    """

    name: str
    problem: InputError | None = None

    @property
    def stem(self) -> str:
        """A name for what is made of it."""
        if self.name == STDIN:
            return "stdin"
        name = self.name.split("?")[0] if is_url(self.name) else self.name
        return Path(name).stem or "picture"

    @property
    def label(self) -> str:
        return "standard input" if self.name == STDIN else self.name

    @property
    def known_kind(self) -> str | None:
        """image, audio or video if the name alone says so."""
        name = self.name.split("?")[0] if is_url(self.name) else self.name
        return kind_of(Path(name))

    def is_file(self, path: Path) -> bool:
        """Whether this is the file at `path`."""
        if self.name == STDIN or not exists(self.name) or not path.exists():
            return False
        return path.samefile(Path(self.name).expanduser())

    def content(self) -> Path | bytes:
        """The file, or its bytes from standard input or the web."""
        if is_url(self.name):
            from .describe.fetch import fetch  # the web takes long to import

            return fetch(self.name)
        if self.name == STDIN:
            return read_piped_bytes("gemma4 describe - < picture.png")
        path = Path(self.name).expanduser()
        if path.exists() and not (path.is_file() or path.is_dir()):
            try:  # a pipe, <(…) in a shell: it can be read once
                return read_bytes(path, MOST)
            except OSError as error:
                raise MediaError(
                    f"{self.label} cannot be read: {error.strerror}."
                ) from None
        return path

    def moves(self) -> bool:
        """Whether it is a file of a moving picture, whatever its suffix."""
        from mlx_gemma4.vision.animation import is_animation

        path = Path(self.name).expanduser() if exists(self.name) else None
        return path is not None and path.is_file() and is_animation(path)

    def part(
        self, video: dict[str, Any], opened: bool = True, still: bool = False
    ) -> dict[str, Any]:
        """A part of a message; `video` are options of a video's part.

        A picture is read to see that it can be, and unless `opened` only its header;
        then, and of a document of several pages, the part holds its file. A video is
        left to the processor; so is a picture that moves, unless `still`. Raises
        MediaError and InputError that name the source.
        """
        if self.problem is not None:
            raise self.problem
        content = self.content()
        if content == b"":
            raise MediaError(f"{self.label} is empty: nothing came in.")
        kind = media_kind(content, self.label)
        if kind == "audio":
            raise MediaError(
                f"{self.label} is a recording, not a picture: gemma4 transcribe "
                "writes down what is said in it."
            )
        if kind == "image" and not still:
            from mlx_gemma4.vision.animation import is_animation

            kind = "video" if is_animation(content) else kind
        if kind == "video":
            return {"type": "video", "video": content, **video}
        if not opened and self._has_sizes(content):  # pixels are read with the prompt
            return {"type": "image", "image": content}
        picture, several = self._picture(content)
        return {
            "type": "image",
            "image": picture if opened and not several else content,
        }

    def _has_sizes(self, content: Path | bytes) -> bool:
        """Whether its header tells that it is a picture."""
        from mlx_gemma4.vision.pages import page_sizes

        return bool(page_sizes(content))

    def _picture(self, content: Path | bytes) -> tuple["Image", bool]:
        """The first page, and whether there are more."""
        from mlx_gemma4.vision.pages import open_pages

        pages = open_pages(content)
        try:
            return next(pages), next(pages, None) is not None
        except MediaError as error:
            raise MediaError(with_name(self.label, str(error))) from None
        finally:
            pages.close()


def split_prompt(words: Sequence[str]) -> tuple[list[str], str | None]:
    """Names of media, and the prompt if the last of `words` is one.

    It is when it is neither -, a URL, a file nor a pattern that finds one, and does not
    look like a path: so a mistyped name is an error, never a prompt.
    """
    names = list(words)
    if not names or is_source(names[-1]) or looks_like_path(names[-1]):
        return names, None
    return names[:-1], names[-1]


def is_source(word: str) -> bool:
    return word == STDIN or is_url(word) or exists(word) or bool(matches(word))


def looks_like_path(word: str) -> bool:
    """A suffix of media, a path's beginning, or one word with a slash, * or suffix."""
    if kind_of(Path(word)) or word.startswith(("/", "./", "../", "~/", "file:")):
        return True
    if re.search(r"\s", word):
        return False
    return "/" in word or "*" in word or bool(SUFFIX.search(word))


def exists(word: str) -> bool:
    try:
        return word != "" and Path(word).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # a name too long; an unknown ~user
        return False


def matches(pattern: str) -> list[str]:
    """The files that a pattern finds which the shell left, in order; no folders.

    Nothing if it is no pattern.
    """
    if not glob.has_magic(pattern) or "\0" in pattern:
        return []
    start = pattern.split("/")[0]
    if start.startswith("~") and exists(start):
        pattern = str(Path(pattern).expanduser())
    return [path for path in searched(pattern) if not os.path.isdir(path)]


def searched(pattern: str) -> list[str]:
    """What a pattern finds, in order. Raises InputError where that takes too long: it
    may go through a whole disk, and again for each of its stars."""
    found: list[list[str]] = []
    once = re.sub(r"(?<![^/])(\*\*/)+", "**/", pattern)  # as one they find the same

    def search() -> None:
        found.append(sorted(set(glob.glob(once, recursive=True))))

    thread = threading.Thread(target=search, daemon=True)
    thread.start()
    thread.join(LONGEST_SEARCH)
    if not found:
        raise InputError(
            f"{pattern} is still being searched after {LONGEST_SEARCH:g} s: name a "
            "folder further down."
        )
    return found[0]


def find_sources(
    names: Sequence[str], allow_url: bool, go_on: bool = False
) -> list[MediaArgument]:
    """Every name as one or more sources. Raises UsageError and InputError.

    go_on: what leads nowhere is a source that says so when it is its turn, unless all
        of them are.
    """
    if names.count(STDIN) > 1:
        raise UsageError("Standard input can be read only once.")
    for name in names:
        if is_url(name) and not allow_url:
            raise UsageError(
                f"{name} is a URL. Add --allow-url to fetch it from the web."
            )
    found: list[MediaArgument] = []
    for name in names:
        try:
            found += map(MediaArgument, expanded(name))
        except InputError as error:
            found.append(MediaArgument(name, error))
    problems = [source.problem for source in found if source.problem is not None]
    if problems and (not go_on or len(problems) == len(found)):
        raise problems[0]
    return found


def expanded(name: str) -> list[str]:
    """The files that a name stands for."""
    if name == STDIN or is_url(name):
        return [name]
    if exists(name):
        if Path(name).expanduser().is_dir():
            raise InputError(f"{name} is a folder. Name the files: '{name}/*'")
        return [name]
    if glob.has_magic(name):
        found = matches(name)
        if not found:
            raise InputError(f"No file matches {name}.{as_question(name)}")
        return found
    if alike := find_alike(Path(os.path.expanduser(name))):
        return [str(alike)]
    raise no_file(name, suggestion(name))


def suggestion(name: str) -> str:
    """The most similar file beside a missing one, and how to say that it is text."""
    if name == "":
        return ""
    folder = Path(name).parent
    try:
        beside = [p.name for p in folder.expanduser().iterdir() if kind_of(p)]
    except (OSError, ValueError, RuntimeError):
        beside = []
    close = difflib.get_close_matches(Path(name).name, beside, 1, cutoff=0.75)
    if close:
        return f" Did you mean {folder / close[0]}?"
    return "" if kind_of(Path(name)) and " " not in name else as_question(name)


def as_question(name: str) -> str:
    """How to say that a name is none, where it may not be one."""
    words = " " in name or not glob.has_magic(name)
    return " If it is a question, put -p before it." if words else ""
