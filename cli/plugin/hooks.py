"""What `llm` loads at each of its starts: names, and nothing that takes long."""

from collections.abc import Callable

import llm

from .models import AsyncGemma, Gemma
from .names import names


@llm.hookimpl
def register_models(register: Callable[..., None]) -> None:
    for name in names():
        register(Gemma(name), AsyncGemma(name))
