"""Names on the command line to recordings: files, patterns, standard input."""

import os
from pathlib import Path

from mlx_gemma4.reading.sources import find_alike, is_url

from ..errors import InputError, UsageError, no_file
from ..files import STDIN, exists, matches

MICROPHONE = "microphone"


def sources(audio: list[str], mic: bool) -> list[str]:
    """What to transcribe, checked before a model is loaded for it."""
    if mic and audio:
        raise UsageError("Give either recordings or --mic.")
    if not mic and not audio:
        raise UsageError("Name a recording, or record one with --mic.")
    if audio.count(STDIN) > 1:
        raise UsageError("Standard input can be read only once.")
    found: list[str] = []
    problems: list[InputError] = []
    for name in audio:
        try:
            found += recordings(name)
        except InputError as error:  # said when it is its turn
            found.append(name)
            problems.append(error)
    if problems and len(problems) == len(found):
        raise InputError(" ".join(map(str, problems)))
    return [MICROPHONE] if mic else found


def recordings(name: str) -> list[str]:
    """The files that a name or a pattern stands for, in order. Raises InputError."""
    if name == STDIN or exists(name):
        return [name]
    if is_url(name):
        raise InputError(f"{name} is a URL: download the recording first.")
    found = matches(name)
    if not found and (alike := find_alike(Path(os.path.expanduser(name)))):
        return [str(alike)]
    if not found:
        raise no_file(name)
    return found
