"""Conversations to text, through the chat template that ships with the checkpoint."""

from functools import cache
from pathlib import Path

from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .conversation import Conversation

DEMO = Path(__file__).resolve().parent.parent / "demo"


@cache
def _template() -> Template:
    source = (DEMO / "chat_template.jinja").read_text(encoding="utf-8")
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source)


def render(chat: Conversation, last: int | None = None) -> str:
    """The whole conversation; with `last`, the prompt made of the first messages."""
    return _template().render(
        messages=chat.messages[:last],
        tools=chat.schemas or None,
        enable_thinking=chat.thinking,
        add_generation_prompt=last is not None,
        bos_token="<bos>",
    )
