"""What the pages for people show: README.md, docs/, and what lies beside examples."""

import re
from dataclasses import dataclass
from pathlib import Path

from places import EXAMPLES, ROOT

PAGES = [
    page
    for page in (
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        EXAMPLES / "captain" / "README.md",
    )
    if page.is_file()
]


@dataclass(frozen=True)
class Shown:
    """A command as it is typed, and what the page prints below it."""

    page: Path
    command: str
    printed: str

    def __str__(self) -> str:
        return f"{self.page.name}: {self.command}"


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands() -> list[Shown]:
    """Every line that a page tells to type in a terminal."""
    found = []
    for page in PAGES:
        for block in blocks(page, "console"):
            for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, printed = entry.partition("\n")
                found.append(Shown(page, re.split(r"\s+# ", command)[0], printed))
    return found
