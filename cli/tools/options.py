"""The options of tools that run."""

from pathlib import Path
from typing import Annotated

from ..options import Panel

Files = Annotated[
    list[Path] | None,
    Panel.TASK.option(
        "--tool",
        metavar="FILE.py",
        help="A Python file whose functions the model may call. They are run once you "
        "allow it. Repeatable.",
    ),
]
Servers = Annotated[
    list[str] | None,
    Panel.TASK.option(
        "--mcp",
        metavar="SERVER",
        help="An MCP server whose tools the model may call: a command, an address, or "
        "a name from the configuration. Repeatable.",
    ),
]
Yes = Annotated[
    bool,
    Panel.TASK.option(
        "--yes", "-y", help="Run tools, and fetch a model, without asking."
    ),
]
Strict = Annotated[
    bool,
    Panel.TASK.option(
        "--strict-tools",
        help="Hold calls to what their tools declare: names, types, choices.",
    ),
]
MaxRounds = Annotated[
    int,
    Panel.TASK.option(
        "--max-rounds",
        min=1,
        metavar="N",
        help="How often the model may call tools before it has to answer.",
    ),
]
ROUNDS = 10
