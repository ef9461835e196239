"""The tools of a conversation: their declarations, and calls that are run."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..chat.calls import ToolCall
from ..errors import ChatError
from .arguments import ArgumentError, fitted
from .declare import tool_of
from .result import Result
from .tool import Tool


class Toolbox:
    """Tools with names of their own.

    tools: functions become tools as `tool` makes them.
    longest: of a result, in characters; that it is cut is told to the model.

    Raises ChatError where two tools have the same name, and for a function that cannot
    be declared.
    """

    def __init__(
        self, tools: Iterable[Tool | Callable[..., Any]], longest: int = 20_000
    ) -> None:
        self.tools: dict[str, Tool] = {}
        self.longest = longest
        if not isinstance(tools, Iterable) or isinstance(tools, str | Mapping):
            raise ChatError(f"tools must be a list of functions, not {tools!r}.")
        for each in tools:
            tool = each if isinstance(each, Tool) else tool_of(each)
            if (first := self.tools.get(tool.name)) is not None:
                raise ChatError(
                    f"Two tools are called {tool.name}, of {first.source} and of "
                    f"{tool.source}: rename one of them."
                )
            self.tools[tool.name] = tool

    @property
    def declarations(self) -> list[dict[str, Any]]:
        """Of all tools, as `Chat` takes them."""
        return [tool.declaration for tool in self.tools.values()]

    def run(self, call: ToolCall) -> Result:
        """Runs a call; whatever goes wrong is a result for the model, too.

        What is no Exception, such as KeyboardInterrupt, goes through.
        """
        tool = self.tools.get(call.name)
        if tool is None:
            known = ", ".join(self.tools) or "none"
            return _wrong(f"there is no tool {call.name}. There are: {known}.")
        parameters = tool.declaration["function"].get("parameters") or {}
        try:
            arguments = fitted(call.arguments, parameters, "")
            result = Result.of(tool.run(arguments))
        except ArgumentError as error:
            return _wrong(f"the arguments do not fit. {error}")
        except (Exception, SystemExit) as error:  # the model can do without this tool
            said = f"{type(error).__name__}: {error}".removesuffix(": ")
            return self._shortened(_wrong(said))
        return self._shortened(result)

    def _shortened(self, result: Result) -> Result:
        length = len(result.text)
        if length <= self.longest:
            return result
        told = f"\n[Cut: these are {self.longest:,} of {length:,} characters.]"
        return replace(result, text=result.text[: self.longest] + told)


def _wrong(said: str) -> Result:
    return Result(f"Error: {said}", is_error=True)
