"""An answer that has begun, as the ids that a model goes on from."""

from collections.abc import Mapping
from typing import Any

from ..chat.messages import REASONING
from ..chat.rendered import as_words
from ..chat.splitter import CHANNEL, CHANNEL_END, HEADER
from ..chat.tokenizer import Tokenizer
from ..errors import ChatError


def begun_tokens(
    tokenizer: Tokenizer, message: Mapping[str, Any], inside_thought: bool
) -> list[int]:
    """Ids of an assistant's message that is not at its end.

    A thought without any content behind it is left open, too.
    inside_thought: the prompt has opened the thought.

    Raises ChatError for another role, for content that is no text, and for calls, which
    are at their end.
    """
    content = message.get("content") or ""
    if message.get("role") != "assistant" or not isinstance(content, str):
        raise ChatError("What has begun must be an assistant's message with text.")
    if message.get("tool_calls"):
        raise ChatError("An answer that calls tools goes on with their results.")
    thought = next((message[key] for key in REASONING if message.get(key)), "")
    tokens: list[int] = []
    if thought and not inside_thought:
        tokens += tokenizer.encode(CHANNEL + HEADER)
    if thought:
        tokens += tokenizer.encode_rendered(as_words(thought, tokenizer.special_tokens))
    if content and (thought or inside_thought):
        tokens += tokenizer.encode("\n" + CHANNEL_END)
    return tokens + tokenizer.encode_rendered(
        as_words(content, tokenizer.special_tokens)
    )
