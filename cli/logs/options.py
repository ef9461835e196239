"""The options of what is kept: conversations, typed lines, prompts that were read."""

from typing import Annotated

from ..options import Panel
from .prompts import AUTO, OFF, checked

PromptCache = Annotated[
    str,
    Panel.MODEL.option(
        "--prompt-cache",
        metavar="HOW",
        envvar="GEMMA4_PROMPT_CACHE",
        parser=checked,
        autocompletion=lambda: [AUTO, OFF],
        help="Keep what the model has read on the disk, for later runs to go on from: "
        "auto, off, or the most GB that it may take.",
    ),
]
NoHistory = Annotated[
    bool,
    Panel.TASK.option(
        "--no-history",
        envvar="GEMMA4_NO_HISTORY",
        help="Do not keep what is typed at the prompt.",
    ),
]
Log = Annotated[
    bool | None,
    Panel.TASK.option(
        "--log/--no-log",
        envvar="GEMMA4_LOG",
        help="Keep what is said, see gemma4 logs. Default: on a terminal.",
        show_default=False,
    ),
]
