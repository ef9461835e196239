"""The form that an answer is to have: the options for it, and what came out."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from .errors import FormError, InputError, UsageError, no_file
from .options import Panel

if TYPE_CHECKING:
    from mlx_gemma4 import Response

Schema = Annotated[
    str | None,
    Panel.ANSWER.option(
        "--schema",
        metavar="SCHEMA",
        help="Answer with JSON of this schema: a file, JSON, or fields such as "
        "'name, age int, tags str[]'.",
    ),
]
JsonObject = Annotated[
    bool,
    Panel.ANSWER.option(
        "--json-object",
        help="Answer with a JSON object, whatever is in it.",
    ),
]
Regex = Annotated[
    str | None,
    Panel.ANSWER.option(
        "--regex",
        metavar="PATTERN",
        help="Answer with text that this regular expression matches.",
    ),
]
Grammar = Annotated[
    Path | None,
    Panel.ANSWER.option(
        "--grammar",
        metavar="FILE",
        help="Answer with text of the Lark grammar in this file.",
    ),
]


def read_form(
    schema: str | None, json_object: bool, regex: str | None, grammar: Path | None
) -> dict[str, str]:
    """The form as `stream_generate` takes it, checked as far as that needs no model.

    Raises ChatError, InputError, and UsageError for more than one.
    """
    from mlx_gemma4.forms.form import form_of

    given = {
        "schema": schema if schema is None else _text_or_file(schema),
        "regex": regex,
        "grammar": grammar if grammar is None else _grammar(grammar),
    }
    form = {name: text for name, text in given.items() if text is not None}
    if json_object:
        if form:
            raise UsageError(f"Choose one of --json-object and --{next(iter(form))}.")
        form["schema"] = '{"type": "object"}'
    form_of(form.get("schema"), form.get("regex"), form.get("grammar"))
    return form


def check_calls(tools: Sequence[Mapping[str, Any]]) -> None:
    """Raises ChatError for a tool whose calls cannot be held to what it declares."""
    from mlx_gemma4.chat.calls import QUOTE
    from mlx_gemma4.chat.tools import CALL_MARKS
    from mlx_gemma4.forms.calls import calls_of

    calls_of(tools, dict.fromkeys((*CALL_MARKS, QUOTE), 0), strict=True)


def refuse_invalid(answer: "Response | None") -> None:
    """Raises FormError for an answer that was cut before it had its form."""
    if answer is not None and answer.finish_reason == "malformed_call":
        raise FormError("A tool call that cannot be read is in the answer's place.")
    if answer is None or answer.finish_reason == "length":
        raise FormError(
            "The answer was cut before it had the form asked for: raise --max-tokens, "
            "or ask for less."
        )


def _text_or_file(schema: str) -> str:
    """A schema as typed, or that of the file that is named."""
    if not schema.strip() or schema.lstrip()[:1] == "{":
        return schema
    path, is_file = Path(schema), False
    with suppress(OSError, RuntimeError):  # too long for a name; ~nobody
        path = path.expanduser()
        is_file = path.is_file()
    if is_file:
        return _read(path)
    # What fields mean may have a slash.
    if path.suffix == ".json" or ("/" in schema and ":" not in schema):
        raise InputError(f"There is no file {path}.")
    return schema


def _grammar(path: Path) -> str:
    if not os.path.exists(path):  # Path.exists would raise for too long a name
        raise no_file(path)
    return _read(path)


def _read(path: Path) -> str:
    from mlx_gemma4.errors import DataError
    from mlx_gemma4.reading.text_file import read_text

    try:
        return read_text(path)
    except DataError as error:
        raise InputError(str(error)) from None
