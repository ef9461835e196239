"""Paths as people type and drop them: quoted, escaped, with ~, as file:// URLs.

A file dropped on a terminal arrives as text: some escape spaces, some quote the whole,
some give a URL, and several files come with blanks between them. In a message, only
what cannot be an ordinary word counts as one: see `take_paths`.
"""

import os
import re
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from mlx_gemma4.reading.sources import find_alike

from ..errors import UsageError, no_file
from ..media_formats import kind_of
from .texts import unusable, use_of

# ASCII blanks only: macOS puts a narrow no-break space into names of screenshots.
BLANK = " \t\r\n"
WORD = re.compile(r"""(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^ \t\r\n'"\\])+""", re.DOTALL)
RUN = re.compile(r"[^ \t\r\n]+")
BEGINNING = re.compile(r"""(?<![^ \t\r\n])(?=['"]?(?:/|~/|\.\.?/|file://))""")
SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}$")
PUNCTUATION = ".,;:!?)"
ESCAPED = re.compile(r"""([ \t'"\\()&;|<>*?\[\]$`!#])""")


def path_of(word: str) -> Path:
    """The absolute path that a word means, once quotes and escapes are gone."""
    if word.startswith("file://"):
        host, _, rest = word.removeprefix("file://").partition("/")
        if host not in ("", "localhost"):
            raise UsageError(f"{word} lies on another machine: copy it here first.")
        word = "/" + unquote(rest)
    # Path.expanduser would raise for a ~user who does not exist.
    return Path(os.path.expanduser(word)).absolute()


def named_paths(words: str) -> list[Path]:
    """The files that a command names, one or more."""
    whole = path_of(words)
    if os.path.isfile(whole):  # as typed by hand, with blanks and apostrophes
        return [whole]
    if alike := find_alike(whole):
        return [alike]
    try:
        return [path_of(word) for word in shlex.split(words)]
    except ValueError:
        raise UsageError(
            f"A quotation mark or escape is left open in: {words}"
        ) from None


@dataclass(frozen=True)
class Taken:
    """The files that a message names, the message without them, and words in it that
    look like paths of such files, with why they are none."""

    files: list[Path]
    rest: str
    missing: list[str]


def take_paths(line: str, leave: Collection[Path] = ()) -> Taken:
    """Finds the files that a message names, all but those of `leave`.

    A path is taken if a medium or a text lies there, and it begins with `/`, `~/`,
    `./`, `../` or `file://`, or is the whole line. Text files are not taken out of
    several lines, which were pasted; of those that are, the name stays in the message.
    Raises InputError where nothing but paths was typed, and one leads nowhere.
    """
    stripped = line.strip(BLANK)
    for word in (stripped, unquoted(stripped)):
        path = usable_file(word, leave)
        if path is not None and ("/" in stripped or path.suffix):
            return Taken([path], "", [])
    refuse_missing(stripped)
    found, missing = [], []
    rest, done, named, only = "", 0, False, True
    for match in BEGINNING.finditer(line):
        if match.start() < done:
            continue
        taken = file_at(line, match.start(), leave)
        if taken is None:
            missing += missing_at(line, match.start())
            continue
        text, path = taken
        between = line[done : match.start()]
        only = only and not between.strip(BLANK)
        rest = rest + between if named else joined(rest, between)
        if named := use_of(path) == "file":
            rest += path.name
        found.append(path)
        done = match.start() + len(text)
    if not found:
        return Taken([], line, missing)
    if only and not line[done:].strip(BLANK):
        return Taken(found, "", [])
    rest = rest + line[done:] if named else joined(rest, line[done:])
    return Taken(found, rest.strip(BLANK), missing)


def file_at(line: str, at: int, leave: Collection[Path]) -> tuple[str, Path] | None:
    """The text that a path at a place of a line takes up, and the file there."""
    pasted = "\n" in line.strip(BLANK) and not line.startswith("file://", at)
    for text, word in readings(line, at):
        path = usable_file(word, leave)
        if path is not None and not (pasted and use_of(path) == "file"):
            return text, path
    return None


def missing_at(line: str, at: int) -> list[str]:
    """The word at a place and why it is no file to attach, if by all appearances it was
    meant to be one."""
    text, word = max(readings(line, at), key=lambda reading: len(reading[0]))
    text, word = text.rstrip(PUNCTUATION), word.rstrip(PUNCTUATION)
    pasted = "\n" in line.strip(BLANK)
    try:
        path = path_of(word)
    except UsageError:
        return []
    if pasted and not kind_of(path):
        return []
    if is_missing(path):
        return [f"{text} (no such file)"]
    useless = os.path.isfile(path) and not use_of(path)
    return [f"{text} (neither text nor a medium)"] if useless else []


def is_missing(path: Path) -> bool:
    """Whether nothing is at a path that cannot be mere words: it has a suffix, or its
    folder is there."""
    if os.path.exists(path):
        return False
    near = path.parent != Path("/") and os.path.isdir(path.parent)
    return near or bool(SUFFIX.search(path.name))


def readings(line: str, at: int) -> Iterator[tuple[str, str]]:
    """Ways to read a path at a place in a line: the text it takes up, and the path."""
    for pattern in (WORD, RUN):
        match = pattern.match(line, at)
        if match is None:
            continue
        whole = match.group()
        for text in (whole, whole.rstrip(PUNCTUATION)):
            for word in {unquoted(text): None, text: None}:
                if word is not None:
                    yield text, word


def unquoted(text: str) -> str | None:
    """What a shell would make of one word; None if it is none, or several."""
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    return words[0] if len(words) == 1 else None


def usable_file(word: str | None, leave: Collection[Path] = ()) -> Path | None:
    """The path that `word` means, if a medium or a text is there; none of `leave`."""
    if not word:
        return None
    try:
        path = path_of(word)
    except UsageError:
        return None
    return path if path not in leave and use_of(path) else None


def refuse_missing(text: str) -> None:
    """Raises InputError if `text` is only paths, and one leads nowhere: it is no
    message."""
    words = [unquoted(word) or "" for word in WORD.findall(text)]
    if not words or WORD.sub("", text).strip(BLANK):
        return
    alone = len(words) == 1 and kind_of(Path(words[0]))
    if not alone and not all(map(BEGINNING.match, words)):
        return
    for path in map(path_of, words):
        if is_missing(path):
            raise no_file(path)
        folder = os.path.isdir(path) and path != Path("/")
        if folder or os.path.isfile(path) and not use_of(path):
            raise unusable(path)


def joined(left: str, right: str) -> str:
    """Two parts of a message, with one blank or line end where a path was."""
    after = right.lstrip(" \t")
    if not left or not after:
        return left or right
    close = after[0] in PUNCTUATION + "\r\n"
    return (left.rstrip(" \t") if close else left) + after


def last_word(text: str) -> str:
    """The word that `text` ends in, as typed; a quotation may still be open."""
    start, quote, escape = 0, "", False
    for at, letter in enumerate(text):
        if escape:
            escape = False
        elif letter == "\\" and quote != "'":
            escape = True
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in " \n":
            start = at + 1
    return text[start:]


def escaped(path: str) -> str:
    """`path` as a shell reads it back."""
    return ESCAPED.sub(r"\\\1", path)
