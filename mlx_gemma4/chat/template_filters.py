"""What templates may call: Jinja's filters, tests and functions, within bounds.

Refused is what would make far more than it is given, before it does.
"""

import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import wraps
from types import BuiltinMethodType
from typing import Any, Never

from jinja2 import TemplateError
from jinja2.exceptions import SecurityError
from jinja2.filters import make_attrgetter
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import pass_context, pass_environment

from .meter import meter

MAX_NUMBER = 1_000_000  # what a width, a count or a number of decimals may be
MAX_SPLIT = 100_000  # characters of a text that is taken apart
MAX_INDENT = 16
# Of what they are called with, these make a list of characters.
SPLITTING = ("list", "batch", "slice", "sort", "unique", "map", "select", "reject")
PADDING = ("center", "ljust", "rjust", "zfill", "expandtabs")
NO_FILTERS = (
    *("filesizeformat", "pprint", "random", "striptags", "urlize", "wordcount"),
    *("wordwrap", "xmlattr"),
)
# Filters that give one of the things they get.
CHOOSING = ("attr", "d", "default", "first", "last", "max", "min")
# Filters that pad or count by the whole numbers they get.
COUNTING = ("batch", "center", "indent", "round", "slice", "tojson", "truncate")
NUMBER = re.compile(r"\d+")
# Widths that stand among the arguments instead of in the pattern.
INDIRECT = re.compile(r"%[^%a-zA-Z]*\*|\{[^{}]*:[^{}]*\{")


def metered_filter_of(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def metered_filter(*args: Any, **kwargs: Any) -> Any:
        used = meter()
        used.tick()
        sized = next((each for each in args if hasattr(each, "__len__")), "")
        if name in SPLITTING and not isinstance(sized, list | tuple | dict):
            _check_number(len(sized) * (MAX_NUMBER // MAX_SPLIT))
        if name in COUNTING:
            _check_padding(sized, [*args, *kwargs.values()])
        result = function(*args, **kwargs)
        if name in CHOOSING or any(result is each for each in args):
            return result
        return used.make(result)

    return metered_filter


def metered_test_of(function: Callable[..., bool]) -> Callable[..., bool]:
    @wraps(function)
    def metered_test(*args: Any, **kwargs: Any) -> bool:
        meter().tick()
        return function(*args, **kwargs)

    return metered_test


def checked_method(method: Any) -> Callable[..., str] | None:
    """A method of a text whose result can be far longer than the text, with a limit."""
    if not isinstance(method, BuiltinMethodType) or not isinstance(
        method.__self__, str
    ):
        return None
    text, name = method.__self__, method.__name__

    def padded(*args: Any, **kwargs: Any) -> str:
        _check_padding(text, [*args, *kwargs.values()])
        return method(*args, **kwargs)

    def join(items: Iterable[str]) -> str:
        return _interleaved(text, items)

    def replace(old: str, new: str, count: int = -1) -> str:
        return _replace(text, old, new, count)

    if name in PADDING:
        return padded
    return {"join": join, "replace": replace}.get(name)


def bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 1


def _check_number(number: int) -> None:
    if number > MAX_NUMBER:
        raise SecurityError(f"a number above {MAX_NUMBER}")


def _check_padding(value: Any, arguments: Iterable[Any]) -> None:
    """Refuse what would be wider than a value may be, were each item so wide."""
    widths = [
        len(each) if isinstance(each, str) else abs(each)
        for each in arguments
        if isinstance(each, int) or (isinstance(each, str) and each is not value)
    ]
    widest = max(widths, default=0)
    _check_number(widest)
    meter().count(widest * max(len(value), 1))


def check_pattern(pattern: str, values: Any) -> None:
    """Refuse what `%` or `format` would blow up: wide fields, long values repeated."""
    if INDIRECT.search(pattern):
        raise SecurityError("a width that is not written in its pattern")
    _check_number(sum(int(digits[:12]) for digits in NUMBER.findall(pattern)))
    if isinstance(values, dict):
        values = list(values.values())
    elif not isinstance(values, list | tuple):
        values = [values]
    longest = max(map(meter().weigh, values), default=0)
    fields = pattern.count("%") + pattern.count("{")
    meter().count(pattern.__sizeof__() + longest * fields)


def _interleaved(separator: str, items: Iterable[str]) -> str:
    parts, used = [], meter()
    for item in items:
        used.tick()
        used.count(item.__sizeof__() + separator.__sizeof__())
        parts.append(item)
    return separator.join(parts)


def text_of(value: Any) -> str:
    """A value as it is printed."""
    if isinstance(value, str):
        return value
    meter().weigh(value)
    return meter().make(str(value))


@pass_environment
def _join(
    environment: SandboxedEnvironment,
    value: Any,
    d: str = "",
    attribute: str | int | None = None,
) -> str:
    if attribute is not None:
        value = map(make_attrgetter(environment, attribute), value)
    return _interleaved(str(d), map(text_of, value))


@pass_context
def _sum(
    context: Context,
    iterable: Iterable[Any],
    attribute: str | int | None = None,
    start: Any = 0,
) -> Any:
    environment = context.environment
    assert isinstance(environment, SandboxedEnvironment)
    if attribute is not None:
        iterable = map(make_attrgetter(environment, attribute), iterable)
    for item in iterable:
        start = environment.call_binop(context, "+", start, item)
    return start


def _replace(value: Any, old: str, new: str, count: int | None = None) -> str:
    text, times = str(value), str(value).count(old)
    if count is not None and count >= 0:
        times = min(times, count)
    if times and len(new) > len(old):
        meter().count(text.__sizeof__() + times * new.__sizeof__())
    return text.replace(old, new, -1 if count is None else count)


def _format(value: Any, *args: Any, **kwargs: Any) -> str:
    if args and kwargs:
        raise TypeError("format takes positional or named values, not both")
    check_pattern(str(value), kwargs or args)
    return str(value) % (kwargs or args)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own escapes HTML.
    _check_number(sum(map(len, separators or ())) * (MAX_NUMBER // MAX_INDENT))
    if indent is not None:
        width = indent if isinstance(indent, int) else len(indent)
        _check_number(width * (MAX_NUMBER // MAX_INDENT))
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
    # Piece by piece where lines can be far longer than what stands in them.
    return (
        encoder.encode(value)
        if indent is None
        else _interleaved("", encoder.iterencode(value))
    )


def raise_exception(message: str) -> Never:
    raise TemplateError(message)


def strftime_now(pattern: str) -> str:
    check_pattern(pattern, ())
    return datetime.now().strftime(pattern)


OWN = {
    "tojson": _tojson,
    "join": _join,
    "replace": _replace,
    "format": _format,
    "sum": _sum,
}
