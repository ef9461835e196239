"""The options of `gemma4 transcribe` that are its own."""

from typing import Annotated

from ..options import Panel

Piece = Annotated[
    float | None,
    Panel.TASK.option(
        "--piece",
        metavar="SECONDS",
        help="How much the model hears at once. Default: what its checkpoint states, "
        "30 s. Of the models only 12B takes more.",
        show_default=False,
    ),
]
Translate = Annotated[
    str | None,
    Panel.TASK.option(
        "--translate", metavar="LANG", help="Translate into this language as well."
    ),
]
