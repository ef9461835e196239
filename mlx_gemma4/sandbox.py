"""The Jinja environment that runs a checkpoint's chat template.

A template is code from strangers. It gets no loader, no attribute that begins with an
underscore, no way to change what it is given, and limits on ranges and repetition.
Filters and functions are those that templates on the Hub count on.
"""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, Never

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_STEPS = 10_000_000  # of all ranges in one rendering; a chat of 2000 messages: 4 M
MAX_REPEATED = 1_000_000  # characters or items made by `*`
MAX_EXPONENT = 1000


class Sandbox(ImmutableSandboxedEnvironment):
    """Unsafe attributes are errors here, not the undefined value they are in Jinja."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, Generation],
        )
        self.filters["tojson"] = _tojson
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now
        self.globals["namespace"] = PlainNamespace

    def unsafe_undefined(self, obj: Any, attribute: str) -> Never:
        raise SecurityError(f"access to {attribute!r} is not allowed")

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and abs(right) > MAX_EXPONENT:
            raise SecurityError(f"an exponent above {MAX_EXPONENT}")
        for items, times in ((left, right), (right, left)):
            if hasattr(items, "__len__") and len(items) * times > MAX_REPEATED:
                raise SecurityError(f"a repetition longer than {MAX_REPEATED}")
        return super().call_binop(context, operator, left, right)


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
