"""Calls and their results as the user reads them: all of what there is, and nothing of
it obeyed."""

import json
import re
import unicodedata

from mlx_gemma4.chat.calls import ToolCall
from mlx_gemma4.tools.result import Result

# Letters and marks that show nothing, beside what Unicode says is no letter at all.
UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
HIDDEN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs")
LINES, LETTERS = 8, 600  # the most that is shown of a result


def visible(text: str) -> str:
    """`text` in one line in which every character is seen: what moves the cursor, turns
    the direction of writing or shows nothing stands as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_seen, text))


def _seen(c: str) -> str:
    hidden = c != " " and unicodedata.category(c) in HIDDEN
    if not hidden and not UNSEEN.match(c):
        return c
    return f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"


def value_text(value: object) -> str:
    return visible(json.dumps(value, ensure_ascii=False))


def call_line(call: ToolCall) -> str:
    """`get_weather {"city": "Rome"}`."""
    return f"{visible(call.name)} {value_text(call.arguments)}"


def argument_lines(call: ToolCall) -> list[str]:
    """Each argument, whole."""
    pairs = call.arguments.items()
    said = [f"  {_key(key)}: {value_text(value)}" for key, value in pairs]
    return said or ["  (no arguments)"]


def _key(name: str) -> str:
    """In quotes where it could be taken for a name and its value."""
    return name if re.fullmatch(r"[\w.-]+", name, re.ASCII) else value_text(name)


def result_lines(result: Result) -> list[str]:
    """The start of a result, and how much more of it the model has."""
    text = result.text.strip()
    lines = text[:LETTERS].splitlines()[:LINES]
    shown = "\n".join(lines)
    left = len(text) - len(shown)
    mark = "error> " if result.is_error else "result> "
    said = [mark + line for line in lines] or [f"{mark}(nothing)"]
    if left > 0:
        said.append(f"… and {left:,} characters more, which the model reads")
    said += [f"{mark}({part['type']})" for part in result.media]
    return said
