"""The Jinja environment that runs a checkpoint's chat template.

A template is code from strangers. It gets no loader, no attribute that begins with an
underscore and no way to change what it is given. Filters and functions are those that
templates on the Hub count on. Time and memory are bounded, with a SecurityError beyond:
`meter` says how, and here every step goes through it, and what could make far more than
it is given (padding, repeating, replacing) is refused before it does.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from types import BuiltinMethodType
from typing import Any, Never

from jinja2 import (
    Template,
    TemplateRuntimeError,
    TemplateSyntaxError,
    nodes,
)
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context

from .meter import MAX_BITS, bounded_range, meter, metered, weight_of_all
from .template_filters import (
    NO_FILTERS,
    OWN,
    bits,
    check_pattern,
    checked_method,
    metered_filter_of,
    metered_test_of,
    raise_exception,
    strftime_now,
    text_of,
)

__all__ = ["Sandbox", "bounded_range"]

MAX_SOURCE = 120_000  # characters of a template; Google's have some 20,000
# Functions of Python's types that make much of little, and that no template needs.
REFUSED = {
    str: ("translate", "maketrans"),
    int: ("to_bytes", "from_bytes"),
    dict: ("fromkeys",),
    bytes: tuple(name for name in dir(bytes) if name not in ("decode", "hex")),
}


class MeteredCode(CodeGenerator):
    """Sends what Jinja writes as plain Python through the environment."""

    def visit_For(self, node: nodes.For, frame: Frame) -> None:
        node.body.insert(0, nodes.ExprStmt(nodes.Const(None), lineno=node.lineno))
        self.writeline("environment.tick()")
        super().visit_For(node, frame)

    def visit_ExprStmt(self, node: nodes.ExprStmt, frame: Frame) -> None:
        """The mark above: without its extension, templates cannot have one."""
        self.writeline("environment.tick()", node)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.joined((")
        for part in node.nodes:
            self.write("environment.text(")
            self.visit(part, frame)
            self.write("), ")
        self.write("))")

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        self._through("ticked", super().visit_Compare, node, frame)

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._through("made", super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._through("made", super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "load":
            self._through("made", super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if isinstance(node.arg, nodes.Slice):
            self._through("sliced", super().visit_Getitem, node, frame)
        else:
            super().visit_Getitem(node, frame)

    def _through(
        self, name: str, write: Callable[..., None], node: nodes.Node, frame: Frame
    ) -> None:
        self.write(f"environment.{name}(")
        write(node, frame)
        self.write(")")


class MeteredTemplate(Template):
    def render(self, *args: Any, **kwargs: Any) -> str:
        """As Jinja does. Raises TemplateError also for what Python raises by mistake:
        the template made it."""
        messages = dict(*args, **kwargs).get("messages", ())
        with metered(len(messages)):
            try:
                return super().render(*args, **kwargs)
            except (AssertionError, MemoryError, SystemError) as error:
                said = str(error) or type(error).__name__
                raise TemplateRuntimeError(said) from None


class Sandbox(ImmutableSandboxedEnvironment):
    """Unsafe attributes are errors here, not the undefined value they are in Jinja."""

    intercepted_binops = frozenset({"*", "**", "+", "-", "%", "/", "//"})
    code_generator_class = MeteredCode
    template_class = MeteredTemplate

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, Generation],
            optimized=False,  # which would compute constants before the meter runs
            finalize=pass_context(lambda context, value: self.text(value)),
        )
        filters = {**self.filters, **OWN}
        self.filters = {
            name: metered_filter_of(name, function)
            for name, function in filters.items()
            if name not in NO_FILTERS
        }
        self.tests = {name: metered_test_of(test) for name, test in self.tests.items()}
        del self.globals["lipsum"]  # text by the number of paragraphs
        self.globals["raise_exception"] = raise_exception
        self.globals["strftime_now"] = strftime_now
        self.globals["namespace"] = PlainNamespace

    def compile(self, source: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().compile(source, *args, **kwargs)
        except (SyntaxError, MemoryError, AssertionError, ValueError) as error:
            said = getattr(error, "msg", None) or str(error) or type(error).__name__
            raise _unusable(said) from None

    def parse(self, source: str, *args: Any, **kwargs: Any) -> nodes.Template:
        if len(source) > MAX_SOURCE:
            raise _unusable(f"longer than {MAX_SOURCE} characters")
        return super().parse(source, *args, **kwargs)

    def tick(self) -> None:
        meter().tick()

    def ticked(self, value: Any) -> Any:
        meter().tick()
        return value

    def made(self, value: Any) -> Any:
        return meter().make(value)

    def sliced(self, value: Any) -> Any:
        """A copy of a part, which weighs no more than the whole."""
        meter().tick()
        meter().count(value.__sizeof__())
        return value

    def text(self, value: Any) -> str:
        """A value as it is printed."""
        meter().tick()
        return text_of(value)

    @staticmethod
    def joined(parts: Iterable[str]) -> str:
        """`"".join`, counted on the way."""
        kept, used = [], meter()
        for part in parts:
            used.tick()
            used.count(part.__sizeof__())
            kept.append(part)
        return "".join(kept)

    concat = joined

    def getattr(self, obj: Any, attribute: str) -> Any:
        """As Jinja does. What a namespace holds was within reach before: most of what
        Google's templates do for each pair of messages is to ask one for it."""
        if type(obj) is PlainNamespace and not attribute.startswith("_"):
            try:
                return getattr(obj, attribute)
            except AttributeError:
                return self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Never:
        raise SecurityError(f"access to {attribute!r} is not allowed")

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        used = meter()
        used.tick()
        # Others may put what they get into one value.
        plain = isinstance(function, Macro) and not (
            function.catch_varargs or function.catch_kwargs
        )
        if not plain and not isinstance(function, BuiltinMethodType):
            weight_of_all(args, kwargs)
        result = super().call(context, function, *args, **kwargs)
        owner = getattr(function, "__self__", None)
        if isinstance(owner, dict) and getattr(function, "__name__", "") == "get":
            return result  # which was there already
        return used.make(result)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        used = meter()
        used.tick()
        if operator == "**" and bits(left) * abs(right) > MAX_BITS:
            raise SecurityError(f"a whole number of more than {MAX_BITS} bits")
        if operator == "%" and isinstance(left, str):
            check_pattern(left, right)
        weight = 0
        if operator == "+" and hasattr(left, "__len__"):
            weight = used.weigh(left) + used.weigh(right)
        for items, times in ((left, right), (right, left)):
            repeats = operator == "*" and hasattr(items, "__len__")
            if repeats and isinstance(times, int):
                weight = used.weigh(items) * max(times, 1)
        used.limit(weight)
        result = super().call_binop(context, operator, left, right)
        if not weight:
            return used.make(result)
        used.count(result.__sizeof__())
        return used.know(result, weight)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if isinstance(value, BuiltinMethodType):
            owner = value.__self__
            for kind, names in REFUSED.items():
                own = isinstance(owner, kind) or owner is kind
                if own and value.__name__ in names:
                    raise SecurityError(f"access to {value.__name__!r} is not allowed")
        if (inner := super().wrap_str_format(value)) is None:
            return checked_method(value)

        @wraps(inner)
        def checked(*args: Any, **kwargs: Any) -> str:
            check_pattern(str(value.__self__), [*args, *kwargs.values()])
            return inner(*args, **kwargs)

        return checked


def _unusable(said: str) -> TemplateSyntaxError:
    error = TemplateSyntaxError(said, 1)
    error.translated = True  # else it would quote its source in further lines
    return error


class Generation(Extension):
    """`{% generation %}` marks what training computes a loss on: here, its body."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class PlainNamespace(Namespace):
    """A namespace whose names cannot reach into Python, and that prints as a name: it
    may hold itself."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise SecurityError(f"a namespace cannot hold {name!r}")
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"
