"""What /image, /audio, /video, /file and /detach do in an interactive chat."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ..chat.session import Session
from ..errors import UsageError
from ..media_formats import kind_of
from .attaching import attach, refuse_other_kind, with_uses
from .messages import Part, names
from .paths import escaped, last_word, named_paths, path_of, unquoted
from .texts import Use

TRACK = re.compile(r"--track[ =]+(\S+)\s+")
NOTHING = "Nothing is attached. /image, /audio, /video and /file attach files."


def attaching(kind: Use) -> Callable[[Session, str], None]:
    """The command that attaches files of one kind, with `file` what they are, or lists
    what is attached."""

    def command(session: Session, words: str) -> None:
        if not words:
            list_attached(session)
            return
        track, words = take_track(words) if kind == "audio" else (None, words)
        paths = named_paths(words)
        if kind == "file":
            attach(session, with_uses(paths))
            return
        for path in paths:
            refuse_other_kind(kind, path, "/")
        attach(session, [(kind, path) for path in paths], track=track)

    return command


def take_track(words: str) -> tuple[int | None, str]:
    """The number that `--track` gives before the files, and the rest."""
    if not (match := TRACK.match(words)):
        return None, words
    if not re.fullmatch("[1-9][0-9]{0,8}", match[1]):
        raise UsageError(f"--track is {match[1]}; sound tracks are counted from 1.")
    return int(match[1]), words[match.end() :]


def list_attached(session: Session) -> None:
    for part in session.chat.attached:
        session.screen.note(f"attached {part['label']}")
    if not session.chat.attached:
        session.screen.note(NOTHING)


def detach_command(session: Session, words: str) -> None:
    """Takes files back, all or those named, before they are sent."""
    attached = session.chat.attached
    if not attached:
        raise UsageError(NOTHING)
    gone = [part for part in attached if not words or is_named(part, words)]
    if not gone:
        raise UsageError(f"{words} is not attached, but {names(attached)}.")
    kept = [part for part in attached if words and not is_named(part, words)]
    session.chat.attached = kept
    session.screen.note(f"detached {names(gone)}")


def is_named(part: Part, words: str) -> bool:
    """Whether an attachment is meant by its file name or its path."""
    path = Path(part["path"])
    word = unquoted(words) or words
    return word == path.name or path_of(word) == path


def media_paths(kind: str, rest: str) -> Iterator[str]:
    """How the last path of `rest` may go on; to any file, if the kind is "file"."""
    word = last_word(rest)
    quote = word[:1] if word[:1] in ("'", '"') else ""
    start = max(word.rfind("/") + 1, len(quote))
    before, typed = word[:start], word[start:]
    name = typed if quote else unquoted(typed) or ""
    try:
        found = sorted(path_of(unquoted(before + quote) or ".").iterdir())
    except (OSError, ValueError):  # of UsageError, too
        return
    for path in found:
        hidden = path.name.startswith(".") and not name
        if hidden or not path.name.startswith(name) or (quote and quote in path.name):
            continue
        spelled = before + (path.name if quote else escaped(path.name))
        if path.is_dir():
            yield spelled + "/"
        elif kind == "file" or kind_of(path) == kind:
            yield spelled + quote
