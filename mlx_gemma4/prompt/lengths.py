"""Texts that no context holds, told before they are encoded as a whole."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..chat.tokenizer import Tokenizer
from ..config import Config
from ..errors import ChatError, ContextError

LONG = 8  # characters a token: hardly a text has as many on average
PIECE = 100_000  # characters encoded at once
SEAM = 8  # tokens more that a cut between pieces can make


def long_texts(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Texts of messages that may be too long by themselves; a template would take long
    to refuse them. What is no message is left to others to refuse."""
    for message in messages if isinstance(messages, Sequence) else ():
        content = message.get("content") if isinstance(message, Mapping) else None
        for part in content if isinstance(content, list) else [content]:
            text = part.get("text") if isinstance(part, Mapping) else part
            if isinstance(text, str) and len(text) > PIECE:
                yield text


def check_length(text: str, tokenizer: Tokenizer, config: Config) -> None:
    """Raises ContextError for a text of more tokens than the context has, or ChatError
    for none.

    Of a text that may be one the beginning is encoded, until it is: to encode 10 MB
    would take 20 seconds and 2 GB. What passes may still be too long by a little.
    """
    if not text:
        raise ChatError("The chat template made nothing of the conversation.")
    context = config.text_config.max_position_embeddings
    if len(text) <= max(context * LONG, PIECE):
        return
    tokens = 0
    for start in range(0, len(text), PIECE):
        tokens += len(tokenizer.encode(text[start : start + PIECE])) - SEAM
        if tokens > context:
            raise ContextError(
                f"The prompt has {len(text):,} characters and far more tokens than the "
                f"{context:,} that the model's context holds. Ask about a part of it."
            )
