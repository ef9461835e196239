"""A user's own text, as token sequences to compare or to train on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_gemma4.chat.rendered import Rendered
from mlx_gemma4.chat.template import ChatTemplate
from mlx_gemma4.chat.tokenizer import Tokenizer
from mlx_gemma4.errors import ChatError, DataError
from mlx_gemma4.reading.home import with_home
from mlx_gemma4.reading.text_file import numbered_lines, read_text

LONGEST = 512  # tokens of a sequence; what is longer is cut, and nothing is lost


def read_data(path: Path, model: Path) -> list[list[int]]:
    """Sequences of at most `LONGEST` + 1 tokens, each after the one that begins a text.

    path: plain text; or JSON lines (`.jsonl`) with "text", or with "messages" for the
        chat template of the folder `model`.

    Raises DataError that names the line.
    """
    text = read_text(with_home(path))
    tokenizer = Tokenizer(model)
    if path.suffix == ".jsonl":
        documents = _json_lines(path, text, model, tokenizer)
    else:
        documents = [tokenizer.encode_document(text)]
    found = [
        [start, *body[at : at + LONGEST]]
        for start, *body in documents
        for at in range(0, len(body), LONGEST)
    ]
    if not found:
        raise DataError(f"{path} has no text.")
    return found


def _json_lines(
    path: Path, text: str, model: Path, tokenizer: Tokenizer
) -> list[list[int]]:
    template = ChatTemplate.from_folder(
        model, tokenizer.bos_token, tokenizer.eos_token, tokenizer.special_tokens
    )
    documents = []
    for number, line in numbered_lines(text):
        try:
            rendered = _rendered(json.loads(line), template)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: {error}") from None
        documents.append(tokenizer.encode_document(rendered))
    return documents


def _rendered(record: Any, template: ChatTemplate | None) -> Rendered:
    """The text of one line. Raises ValueError."""
    if isinstance(record, Mapping) and isinstance(record.get("text"), str):
        return Rendered((record["text"],))
    if not isinstance(record, Mapping) or "messages" not in record:
        raise ValueError('it has neither "text" nor "messages".')
    if template is None:
        raise ChatError("the model has no chat template for messages.")
    return template.render(record["messages"], add_generation_prompt=False)
