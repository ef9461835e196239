"""What models are called in `llm`, which asks for it at every start: nothing here
imports what takes long."""

import sys

from mlx_gemma4.hub.names import DEMO

DEFAULT = "gemma4"


def names() -> list[str]:
    """`gemma4`, and `gemma4/NAME` of all models that are here, short names too."""
    from mlx_gemma4.hub.here import held

    try:
        here = [each.name for each in held() if each.complete]
    except OSError as error:  # must not keep `llm` from its other models
        note(f"The models that are here cannot be listed: {error}")
        here = [DEMO]
    short = [name.partition(":")[0] for name in here]
    known = dict.fromkeys([*here, *short])
    return [DEFAULT, *(f"{DEFAULT}/{name}" for name in known)]


def note(text: str) -> None:
    print(text, file=sys.stderr)
