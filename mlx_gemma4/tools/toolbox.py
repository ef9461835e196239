"""The tools of a conversation: their declarations, and calls that are run."""

from collections.abc import Callable, Iterable
from typing import Any

from ..chat.calls import ToolCall
from .result import Result
from .tool import Tool


class Toolbox:
    """Tools with names of their own.

    tools: functions become tools as `tool_of` makes them.
    longest: of a result, in characters; what is cut is told to the model.

    Raises ChatError where two tools have the same name.
    """

    def __init__(
        self, tools: Iterable[Tool | Callable[..., Any]], longest: int = 20_000
    ) -> None:
        self.tools: dict[str, Tool] = {}
        self.longest = longest
        raise NotImplementedError

    @property
    def declarations(self) -> list[dict[str, Any]]:
        """Of all tools, as `Chat` takes them."""
        return [tool.declaration for tool in self.tools.values()]

    def run(self, call: ToolCall) -> Result:
        """Runs a call; whatever goes wrong is a result for the model as well.

        What is no Exception, such as KeyboardInterrupt, goes through.
        """
        raise NotImplementedError
