"""The calls of a turn: allowed, run, shown, and answered in order."""

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from mlx_gemma4.chat.calls import ToolCall
from mlx_gemma4.generation.answer import UNFINISHED, Chunk
from mlx_gemma4.tools.media import readable
from mlx_gemma4.tools.result import Result
from mlx_gemma4.tools.toolbox import Toolbox

from ..chat.conversation import Conversation
from ..errors import AnswerError, UsageError
from ..render import Screen
from .approval import Approval, Verdict
from .aside import aside
from .options import ROUNDS
from .wording import call_line, result_lines

if TYPE_CHECKING:
    from ..terminal.keyboard import Interrupt

STOPPED = "Not run: the turn was stopped."
BROKEN = "It was stopped while it ran: what it has done is not known."
LOST = "No result is known: the conversation ended before there was one."
CUT = "Not run: the answer was cut off, so that it may not be what was meant."
LIMIT = "Not run: the tools were called often enough. Answer with what is known."


class Calls:
    """Answers what the model calls. No call stays without a result but those of tools
    that are only declared, and of what follows them.

    declared: the names of those tools.
    most: how often the model may call before it has to answer.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        approval: Approval,
        screen: Screen,
        declared: Collection[str] = (),
        most: int = ROUNDS,
    ) -> None:
        self.toolbox, self.approval = toolbox, approval
        self.results: list[Result] = []  # of the calls that were answered last
        self._screen, self._most = screen, most
        self._declared = declared

    def takes(self, name: str) -> bool:
        """Whether a call of this name is answered here: also where there is no tool of
        that name, which the model is told."""
        return name not in self._declared

    def waiting(self, chat: Conversation) -> dict[str, Any] | None:
        """The next call to be answered here."""
        call = chat.open_call()
        return call if call and self.takes(call["function"]["name"]) else None

    def answer(
        self, chat: Conversation, keep: Callable[[], None], interrupt: "Interrupt"
    ) -> Iterator[Chunk] | None:
        """Runs the calls that wait, and asks the model on. None where none waits, or
        the turn is over.

        keep: called after each result.
        Raises KeyboardInterrupt at Ctrl-C; every call then has a result that says so.
        """
        self.results = []
        if self.waiting(chat) is None:
            return None
        if chat.last is not None and chat.last.finish_reason in UNFINISHED:
            self.close(chat, CUT)
            keep()
            return None
        over = rounds(chat) - self._most
        if over > 0:
            self.close(chat, LIMIT)
            keep()
        while (entry := self.waiting(chat)) is not None:
            self._answer(chat, entry, keep, interrupt)
        if over == 1:
            self._screen.note(
                f"(called tools {self._most} times: it has to answer now; --max-rounds "
                "allows more)"
            )
        if over > 1 or chat.open_call() is not None:
            return None
        return chat.conclude() if over == 1 else chat.go_on()

    def close(self, chat: Conversation, words: str) -> None:
        """Gives the calls that wait a result that says why there is none."""
        while (entry := self.waiting(chat)) is not None:
            self._give(chat, entry, Result(words, is_error=True))

    def stop(self, chat: Conversation) -> None:
        """The turn is not gone on with."""
        self.close(chat, STOPPED)

    def lose(self, chat: Conversation) -> None:
        """The program ended before there were results."""
        self.close(chat, LOST)

    def endless(self, chat: Conversation) -> bool:
        """Whether the model still called when it was told to answer."""
        return chat.has_results() and rounds(chat) > self._most + 1

    def check_allowed(self) -> None:
        """At the end of all. Raises UsageError for calls that nobody could allow."""
        if refused := list(dict.fromkeys(self.approval.refused)):
            raise UsageError(
                f"Not run, since nobody can be asked here: {', '.join(refused)}. Add "
                "--yes to run every call."
            )

    def check_answered(self, chat: Conversation) -> None:
        """Raises AnswerError for a turn that ended in calls."""
        if self.endless(chat):
            raise AnswerError(
                f"The model called tools {self._most} times, and did not answer when "
                "it was told to: --max-rounds allows more."
            )
        if chat.has_results():
            raise AnswerError(
                "The answer was cut off while it called tools, which were not run: "
                "raise --max-tokens."
            )

    def _answer(
        self,
        chat: Conversation,
        entry: dict[str, Any],
        keep: Callable[[], None],
        interrupt: "Interrupt",
    ) -> None:
        call = ToolCall(entry["function"]["name"], entry["function"]["arguments"])
        words = STOPPED
        try:
            verdict = self._verdict(call, interrupt)
            if verdict is Verdict.RUN:
                words = BROKEN
                with interrupt, aside():
                    result = self._run(call)
                result = readable(result, chat.processor, chat.settings.image_tokens)
            else:
                result = Result(verdict, is_error=True)
        except BaseException:
            self._give(chat, entry, Result(words, is_error=True))
            self.close(chat, STOPPED)
            keep()
            raise
        self._give(chat, entry, result)
        if interrupt.requested:  # the tool took the Ctrl-C for itself
            self.close(chat, STOPPED)
        keep()
        if interrupt.requested:
            raise KeyboardInterrupt

    def _run(self, call: ToolCall) -> Result:
        try:
            return self.toolbox.run(call)
        finally:
            self._screen.passed()  # what a server said while it worked

    def _verdict(self, call: ToolCall, interrupt: "Interrupt") -> Verdict:
        """Whether a call is run. It is shown: in the question, or by a note."""
        tool = self.toolbox.tools.get(call.name)
        if tool is not None and self.approval.asks(tool):
            return self.approval.ask(tool, call, interrupt)
        if not self._screen.as_json:
            self._screen.note(call_line(call))
        return Verdict.RUN if tool is None else self.approval.unasked(tool)

    def _give(self, chat: Conversation, entry: dict[str, Any], result: Result) -> None:
        chat.give(result.message(entry["id"]))
        self.results.append(result)
        if not self._screen.as_json:
            for line in result_lines(result):
                self._screen.note(line)


def rounds(chat: Conversation) -> int:
    """How often tools were called since the user's last message."""
    count = 0
    for message in reversed(chat.messages):
        if message["role"] == "user":
            break
        count += bool(message.get("tool_calls"))
    return count
