"""What /help says: the commands by what they are for, and the keys."""

import shutil
from collections.abc import Iterable, Iterator, Mapping

KEYS = {
    "Enter": "sends; Alt-Enter begins a new line",
    '""" … """': "spans lines, as does a final \\",
    "Tab": "completes commands and paths",
    "Ctrl-G": "opens the message in $EDITOR",
    "Ctrl-R": "searches what was typed before",
    "Ctrl-C": "stops the answer; twice leaves",
    "Ctrl-Z": "suspends; fg goes on",
    "Ctrl-D": "leaves",
}
FILES = "A file dropped into the line is attached: a path from /, ~, ./ or file://."
WORDS = "exit, quit, help and ? work without a slash. //text sends /text."
INDENT = 2
BESIDE = 60  # columns from which on an explanation stands beside what it explains


def help_lines(groups: Mapping[str, Iterable[tuple[str, str]]]) -> Iterator[str]:
    """The whole text for the width of the window.

    groups: by title, usages and what they do.
    """
    columns = shutil.get_terminal_size().columns
    tables = {**groups, "Keys": KEYS.items()}
    rows = {title: list(pairs) for title, pairs in tables.items()}
    width = max(len(usage) for pairs in rows.values() for usage, _ in pairs)
    for title, pairs in rows.items():
        yield title
        for usage, does in pairs:
            if columns >= BESIDE:
                yield f"{'':{INDENT}}{usage:<{width}}  {does}"
            else:
                yield f"{'':{INDENT}}{usage}"
                yield f"{'':{2 * INDENT}}{does}"
    yield FILES
    yield WORDS
