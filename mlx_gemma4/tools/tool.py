"""A tool: what a model may call, how it is declared, and how it is run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..chat.calls import NAME
from ..errors import ChatError


@dataclass(frozen=True)
class Tool:
    """Something a model may call. One that was made of a function is still callable.

    Raises ChatError for a name that no call can be written with.

    declaration: in OpenAI's shape, `{"type": "function", "function": {…}}`.
    run: takes the arguments by name, which fit the declaration. Returns a text, what
        JSON can hold, a PIL picture, or a Result; raises whatever it likes.
    source: where it comes from, as people know it: a file's name, a server's.
    read_only: whether it changes nothing; None where that is not said.
    trusted: whether the user believes what `source` says in `read_only`.
    """

    name: str
    declaration: dict[str, Any]
    run: Callable[[Mapping[str, Any]], Any]
    source: str
    read_only: bool | None = None
    trusted: bool = False
    function: Callable[..., Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ChatError(
                f"A tool cannot be called {self.name!r}: give it a name without blanks "
                "and without any of {}<>."
            )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function it was made of, as if it were no tool."""
        if self.function is None:
            raise TypeError(f"{self.name} of {self.source} is no function: use run.")
        return self.function(*args, **kwargs)
