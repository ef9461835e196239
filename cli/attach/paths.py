"""Paths as people type and drop them: quoted, escaped, with ~, as file:// URLs.

A file dropped on a terminal arrives as text: some escape spaces, some quote the whole,
some give a URL, and several files come with blanks between them. In a message, only
what cannot be an ordinary word counts as one: see `take_paths`.
"""

import os
import re
import shlex
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import unquote

from mlx_gemma4.media import SUFFIXES
from mlx_gemma4.reading.sources import find_alike

from ..errors import UsageError, no_file
from ..media_formats import kind_of, kind_of_file

# ASCII blanks only: macOS puts a narrow no-break space into names of screenshots.
BLANK = " \t\r\n"
WORD = re.compile(r"""(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^ \t\r\n'"\\])+""", re.DOTALL)
RUN = re.compile(r"[^ \t\r\n]+")
BEGINNING = re.compile(r"""(?<![^ \t\r\n])(?=['"]?(?:/|~|\./|file://))""")
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


def take_paths(
    line: str, kinds: Collection[str] = tuple(SUFFIXES)
) -> tuple[list[Path], str]:
    """The media files that a message names, and the message without them.

    A path is taken if it leads to an existing medium of one of `kinds`, and begins with
    `/`, `~`, `./` or `file://`, or is the whole line. Raises InputError where nothing
    but paths was typed, and one leads nowhere.
    """
    stripped = line.strip(BLANK)
    for word in (stripped, unquoted(stripped)):
        path = media_file(word, kinds)
        if path is not None:
            return [path], ""
    found: list[Path] = []
    rest, done = "", 0
    for match in BEGINNING.finditer(line):
        if match.start() < done:
            continue
        for text, word in readings(line, match.start()):
            path = media_file(word, kinds)
            if path is not None:
                found.append(path)
                rest = joined(rest, line[done : match.start()])
                done = match.start() + len(text)
                break
    rest = joined(rest, line[done:]).strip(BLANK) if found else line
    refuse_missing(rest)
    return found, rest


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


def media_file(word: str | None, kinds: Collection[str]) -> Path | None:
    """The path that `word` means, if a medium of one of `kinds` is there."""
    if not word:
        return None
    try:
        path = path_of(word)
    except UsageError:
        return None
    # os.path, since Path.is_file raises for names that are too long.
    return path if os.path.isfile(path) and kind_of_file(path) in kinds else None


def refuse_missing(text: str) -> None:
    """Raises InputError if `text` is only paths of media: one is no message."""
    words = WORD.findall(text)
    if not BEGINNING.match(text) or WORD.sub("", text).strip(BLANK):
        return
    plain = [unquoted(word) or "" for word in words]
    if all(BEGINNING.match(word) and kind_of(Path(word)) for word in plain):
        raise no_file(path_of(plain[0]))


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
