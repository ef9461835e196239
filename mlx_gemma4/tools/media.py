"""Pictures and sound that tools return, as far as a model can take them."""

from dataclasses import replace
from typing import Any

from ..errors import ChatError, CheckpointError, MediaError
from ..media import Kind
from ..prompt.attachments import KIND_OF_PART, MARKS
from ..prompt.processor import Processor
from .result import Result

NAMES: dict[Kind, str] = {"image": "picture", "audio": "recording", "video": "video"}


def readable(
    result: Result, processor: Processor, image_tokens: int | None = None
) -> Result:
    """A result with its media read, as `processor.prepare` does, for all turns to come.

    What the model cannot see or hear, or nobody can read, is told in the text.
    """
    media: list[dict[str, Any]] = []
    text = result.text
    for part in result.media:
        kind = KIND_OF_PART[part["type"]]
        try:
            _check_place(processor, kind)
            prepared = processor.prepare(part, image_tokens)
        except (ChatError, CheckpointError, MediaError) as error:
            text += f"\n(A {NAMES[kind]} came with it. {error})"
        else:
            media.append({"type": kind, kind: prepared})
    return replace(result, text=text.strip(), media=media)


def _check_place(processor: Processor, kind: Kind) -> None:
    """Raises ChatError for a template that writes the text of a result only."""
    call = {"id": "0", "function": {"name": "look", "arguments": {}}}
    messages = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "0", "content": [{"type": kind}]},
    ]
    if MARKS[kind] not in processor.render(messages).text:
        raise ChatError("This model's chat template has no place for it.")
