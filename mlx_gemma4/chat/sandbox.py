"""The Jinja environment that runs a checkpoint's chat template.

A template is code from strangers. It gets no loader, no attribute that begins with an
underscore and no way to change what it is given. Filters and functions are those that
templates on the Hub count on.

Bounded, with a SecurityError beyond: the steps of all ranges, powers, what `*` repeats,
and the length of every text made by `+`, `~`, `%`, `format`, `join`, `replace`, by the
filters and methods that pad, and by the output, a macro or a block. Not bounded: lists
that hold each other many times over, once printed or written as JSON; and time.
"""

import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import wraps
from types import BuiltinMethodType
from typing import Any, Never

from jinja2 import TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import make_attrgetter
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_environment

MAX_STEPS = 10_000_000  # of all ranges in one rendering; a chat of 2000 messages: 4 M
MAX_REPEATED = 1_000_000  # characters or items made by `*`
MAX_TEXT = 100_000_000  # characters; the longest context has about a million
MAX_EXPONENT = 1000
# What pads its first argument, or counts, by the numbers that follow it.
PADDING = ("center", "indent", "tojson", "batch", "slice")
PADDING_METHODS = ("center", "ljust", "rjust", "zfill", "expandtabs")
NUMBER = re.compile(r"\d+")
# Widths that stand among the arguments instead of in the pattern.
INDIRECT = re.compile(r"%[^%a-zA-Z]*\*|\{[^{}]*:[^{}]*\{")


def joined(parts: Iterable[str]) -> str:
    """`"".join` up to MAX_TEXT characters."""
    kept, length = [], 0
    for part in parts:
        length += len(part)
        _check_length(length)
        kept.append(part)
    return "".join(kept)


class CheckedCode(CodeGenerator):
    """Sends `~` through the sandbox, which Jinja does for the other operators only."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat(map(str, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write(")))")


class Sandbox(ImmutableSandboxedEnvironment):
    """Unsafe attributes are errors here, not the undefined value they are in Jinja."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})
    code_generator_class = CheckedCode
    concat = staticmethod(joined)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, Generation],
        )
        self.filters["tojson"] = _tojson
        self.filters["join"] = _join
        self.filters["replace"] = _replace
        self.filters["format"] = _format
        self.filters |= {name: _padding(self.filters[name]) for name in PADDING}
        del self.globals["lipsum"]  # text by the number of paragraphs
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now
        self.globals["namespace"] = PlainNamespace

    def unsafe_undefined(self, obj: Any, attribute: str) -> Never:
        raise SecurityError(f"access to {attribute!r} is not allowed")

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and abs(right) > MAX_EXPONENT:
            raise SecurityError(f"an exponent above {MAX_EXPONENT}")
        if operator == "%" and isinstance(left, str):
            _check_pattern(left, right)
        if operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            _check_length(len(left) + len(right))
        for items, times in ((left, right), (right, left)):
            repeats = operator == "*" and hasattr(items, "__len__")
            if repeats and isinstance(times, int) and len(items) * times > MAX_REPEATED:
                raise SecurityError(f"a repetition longer than {MAX_REPEATED}")
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if (inner := super().wrap_str_format(value)) is None:
            return _checked_method(value)

        @wraps(inner)
        def checked(*args: Any, **kwargs: Any) -> str:
            _check_pattern(value.__self__, [*args, *kwargs.values()])
            return inner(*args, **kwargs)

        return checked


class Generation(Extension):
    """`{% generation %}` marks what training computes a loss on: here, its body."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class PlainNamespace(Namespace):
    """A namespace whose names cannot reach into Python."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise SecurityError(f"a namespace cannot hold {name!r}")
        super().__setitem__(name, value)


def bounded_range() -> Callable[..., range]:
    """A `range` for one rendering, whose results add up to at most MAX_STEPS."""
    left = MAX_STEPS

    def take(*arguments: int) -> range:
        nonlocal left
        result = range(*arguments)
        left -= len(result)
        if left < 0:
            raise SecurityError(f"more than {MAX_STEPS} steps in ranges")
        return result

    return take


def _checked_method(method: Any) -> Callable[..., str] | None:
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

    if name in PADDING_METHODS:
        return padded
    return {"join": join, "replace": replace}.get(name)


def _padding(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        value = next((each for each in args if hasattr(each, "__len__")), "")
        _check_padding(value, [*args, *kwargs.values()])
        return function(*args, **kwargs)

    return checked


def _check_padding(value: Any, arguments: Iterable[Any]) -> None:
    widths = [each for each in arguments if isinstance(each, int)]
    _check_length(max(widths, default=0) * max(len(value), 1))


def _check_length(length: int) -> None:
    if length > MAX_TEXT:
        raise SecurityError(f"a text longer than {MAX_TEXT} characters")


def _check_pattern(pattern: str, values: Any) -> None:
    """Refuse what `%` or `format` would blow up: wide fields, long values repeated."""
    if INDIRECT.search(pattern):
        raise SecurityError("a width that is not written in its pattern")
    widths = sum(int(digits[:12]) for digits in NUMBER.findall(pattern))
    if widths > MAX_REPEATED:
        raise SecurityError(f"fields wider than {MAX_REPEATED} characters")
    if isinstance(values, str):
        values = [values]
    elif isinstance(values, dict):
        values = list(values.values())
    elif not isinstance(values, list | tuple):
        values = []
    longest = max((len(v) for v in values if hasattr(v, "__len__")), default=0)
    fields = pattern.count("%") + pattern.count("{")
    _check_length(len(pattern) + longest * fields)


def _interleaved(separator: str, items: Iterable[str]) -> str:
    parts: list[str] = []
    length = 0
    for item in items:
        length += len(item) + len(separator)
        _check_length(length)
        parts.append(item)
    return separator.join(parts)


@pass_environment
def _join(
    environment: Sandbox, value: Any, d: str = "", attribute: str | int | None = None
) -> str:
    if attribute is not None:
        value = map(make_attrgetter(environment, attribute), value)
    return _interleaved(str(d), map(str, value))


def _replace(value: Any, old: str, new: str, count: int | None = None) -> str:
    text, times = str(value), str(value).count(old)
    if count is not None and count >= 0:
        times = min(times, count)
    _check_length(len(text) + times * (len(new) - len(old)))
    return text.replace(old, new, -1 if count is None else count)


def _format(value: Any, *args: Any, **kwargs: Any) -> str:
    if args and kwargs:
        raise TypeError("format takes positional or named values, not both")
    _check_pattern(str(value), kwargs or args)
    return str(value) % (kwargs or args)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own escapes HTML.
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> Never:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
