"""What `llm` loads at each of its starts: names, and nothing that takes long."""

from collections.abc import Callable

import llm

from .names import names, note


@llm.hookimpl
def register_models(register: Callable[..., None]) -> None:
    try:
        from .models import AsyncGemma, Gemma
    except ImportError:  # must not keep an older `llm` from its other models
        note("The models of mlx-gemma4 need llm 0.36 or newer: `llm install -U llm`.")
        return
    for name in names():
        register(Gemma(name), AsyncGemma(name))
