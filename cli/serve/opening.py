"""What a server is started with, checked before a model is loaded."""

import os
from collections.abc import Sequence
from pathlib import Path

from mlx_gemma4.errors import DataError
from mlx_gemma4.reading.home import with_home
from mlx_gemma4.reading.text_file import read_text

from ..errors import InputError, UsageError
from .guard import ANY, Guard, is_loopback
from .media import MediaRules
from .server import Server

VARIABLE = "GEMMA4_API_KEY"


def guard_for(host: str, key_file: Path | None, origins: Sequence[str]) -> Guard:
    """Raises UsageError for what would let anybody in, and InputError for a key that
    cannot be read."""
    key = _key(key_file)
    if key is None and not is_loopback(host):
        raise UsageError(
            f"--host {host} lets other machines in: give a key, with --api-key FILE or "
            f"{VARIABLE}."
        )
    named = frozenset(origin.lower().rstrip("/") for origin in origins)
    for origin in sorted(named):
        if origin in (ANY, "null"):
            if key is None:
                raise UsageError(
                    f"--allow-origin {origin} lets any web page in: give a key, with "
                    f"--api-key FILE or {VARIABLE}."
                )
        elif "://" not in origin or "/" in origin.partition("://")[2]:
            raise UsageError(
                f"--allow-origin {origin} is none: it is like http://localhost:3000."
            )
    return Guard(host.lower(), key, named)


def _key(file: Path | None) -> str | None:
    named = VARIABLE if file is None else str(file)
    if file is None:
        key = os.environ.get(VARIABLE)
    else:
        try:
            key = read_text(with_home(file)).strip()
        except DataError as error:
            raise InputError(f"{error} --api-key names a file that holds it.") from None
    if key is None:
        return None
    if not (key.isascii() and key.isprintable()) or " " in key or not key:
        raise InputError(
            f"The key in {named} must be one line of letters, digits and signs."
        )
    return key


def media_rules(folders: Sequence[Path], urls: bool) -> MediaRules:
    """Raises UsageError for a folder that is none."""
    found = [with_home(folder) for folder in folders]
    for folder in found:
        if not folder.is_dir():
            raise UsageError(f"--allow-files {folder} is no folder.")
    return MediaRules(tuple(folder.resolve() for folder in found), urls)


def listen(host: str, port: int) -> Server:
    """Raises UsageError where that address cannot be had."""
    try:
        return Server((host, port))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"Cannot listen at port {port} of {host}: {reason}. Another --port may be "
            "free; 0 takes any that is."
        ) from None
