"""One run of a command that talks: the conversation, its output, and its options."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_gemma4.generation.answer import Chunk, Response

from ..logs.prompts import end
from ..render import Screen, stats_line
from ..terminal.suspending import Suspending
from .conversation import Conversation

if TYPE_CHECKING:
    from mlx_gemma4.kept.store import KeptPrompts

    from ..logs.keeping import Keeper
    from ..terminal.keyboard import Interrupt
    from ..tools.calls import Calls

NEARLY_FULL = (80, 95, 100)  # percent of the context
Answer = Iterator[Chunk] | None  # what a command asks for, to be shown

ENDS = {
    "length": "(cut off: the token limit was reached)",
    "loop": "(stopped: it says the same again; see --no-stop-loops)",
    "closed": "(brought to an end: the token limit was reached)",
    "malformed_call": "(a tool call that cannot be read is part of the text)",
}
EARLIER = "; --think-budget N ends a thought earlier"


def never() -> bool:
    return False


def rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def ends_of(answer: Response) -> Iterator[str]:
    """What there is to say of how an answer ended."""
    if answer.stats is not None and answer.stats.loops:
        yield f"(its thought went round in circles and was closed{EARLIER})"
    said = answer.text.strip() or answer.tool_calls
    if answer.finish_reason is not None and answer.thought and not said:
        yield f"(it only thought, and gave no answer{EARLIER})"
    if answer.finish_reason in ENDS:
        yield ENDS[answer.finish_reason]


def told(answer: Response) -> dict[str, Any]:
    """What JSON tells of an answer, however it came."""
    stats = answer.stats
    return {
        "text": answer.text,
        "thinking": answer.thought or None,
        "tool_calls": [
            {"name": call.name, "arguments": call.arguments}
            for call in answer.tool_calls
        ],
        "malformed_calls": answer.malformed_calls,
        "finish_reason": answer.finish_reason or "interrupted",
        "usage": stats
        and {
            "prompt": stats.prompt_tokens,
            "cached": stats.cached_tokens,
            "completion": stats.completion_tokens,
            "drafted": stats.drafted,
            "accepted": stats.accepted,
        },
        "seed": stats and stats.seed,
    }


@dataclass
class Session:
    chat: Conversation
    screen: Screen
    model_name: str
    load_seconds: float
    show_stats: bool = False
    attach_named: bool = True  # whether paths in messages are attached
    draft: str = ""  # what the next prompt starts with
    adapter: Path | None = None
    prompt_cache: str = "off"  # as --prompt-cache says it
    prompts: "KeptPrompts | None" = None  # of the model, what it has read
    keeper: "Keeper | None" = None
    calls: "Calls | None" = None  # of tools that run, if there are any
    answers: list[dict[str, Any]] = field(default_factory=list)  # of a turn, for --json
    warned: int = 0  # of how many percent of the context the user was told last

    def limit(self) -> int:
        """How many tokens the conversation may have."""
        own = self.chat.model.config.text_config.max_position_embeddings
        return min(own, self.chat.settings.max_context or own)

    def percent(self) -> int:
        """How much of that the conversation took when it was last read, rounded up."""
        return -(-self.chat.used() * 100 // self.limit())

    def context(self) -> str:
        used = f"{self.chat.used():,} of {self.limit():,} tokens"
        return f"{used} ({self.percent()} %)"

    def status(self) -> str:
        """What stands below the prompt."""
        waiting = len(self.chat.attached)
        parts = [
            f"context {self.percent()} %",
            "thinks" if self.chat.settings.think else "",
            f"{waiting} attached" if waiting else "",
            self.model_name,
        ]
        return " · ".join(filter(None, parts))

    def warn_of_end(self) -> None:
        """Says once each time that the context is nearly full, and what helps."""
        percent = self.percent()
        level = max((each for each in NEARLY_FULL if each <= percent), default=0)
        if level > self.warned:
            self.screen.note(
                f"The context is {percent} % full: {self.chat.used():,} of "
                f"{self.limit():,} tokens. /undo takes back a turn and /clear all; "
                "/save FILE keeps it first."
            )
        self.warned = level

    def take_draft(self) -> str:
        draft, self.draft = self.draft, ""
        return draft

    def show(
        self,
        chunks: Iterator[Chunk],
        stopped: Callable[[], bool] = never,
        resumed: Callable[[], bool] = never,
    ) -> None:
        """Shows an answer as it comes, until it ends or `stopped` says so; anew where
        `resumed` says that something else came between."""
        self.chat.last = None
        keeper = self.keeper
        try:
            if keeper is not None:
                keeper.begin(self.chat, self.model_name, self.adapter)
            for chunk in chunks:
                if keeper is not None:
                    keeper.add(chunk)
                if resumed():
                    self.screen.resumed()
                if not self.screen.as_json:
                    self._show_chunk(chunk)
                if stopped():
                    break
        finally:
            self.screen.end()
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
            if keeper is not None:
                keeper.end(self.chat)
        self.show_end()

    def show_once(self, chunks: Iterator[Chunk]) -> None:
        """Shows an answer beside which nobody types, and those to what it calls."""
        more: Answer = chunks
        try:
            while more is not None:
                with Suspending() as suspending:
                    self.show(more, resumed=suspending.resumed)
                more = self.answer_calls()
        finally:
            self.end_turn()

    def answer_calls(self, interrupt: "Interrupt | None" = None) -> Answer:
        """Runs what the last answer calls; the answer to that, or None."""
        if self.calls is None or self.calls.waiting(self.chat) is None:
            return None
        if interrupt is None:
            from ..terminal.keyboard import Interrupt  # half as slow as the model

            interrupt = Interrupt()
        try:
            return self.calls.answer(self.chat, self.follow, interrupt)
        finally:
            self._add_results()

    def close_calls(self) -> None:
        """The turn was stopped: what is called has no result, and that is told."""
        if self.calls is not None and self.calls.waiting(self.chat) is not None:
            self.calls.stop(self.chat)
            self.follow()

    def lose_calls(self) -> None:
        """What a conversation from elsewhere calls has no result any more."""
        if self.calls is not None:
            self.calls.lose(self.chat)
            self.follow()

    def end_turn(self) -> None:
        """Prints the answers of a turn as one object: the last, and those before it."""
        answers, self.answers = self.answers, []
        if answers:
            *before, last = answers
            rounds = {"rounds": before} if self.calls is not None else {}
            self.screen.json({**last, **rounds})
        self.remember()

    def _add_results(self) -> None:
        if self.answers and self.calls is not None:
            called = self.answers[-1]["tool_calls"]
            for call, result in zip(called, self.calls.results, strict=False):
                call |= {"result": result.text, "is_error": result.is_error}

    def keep(self, name: str | None = None) -> None:
        """Keeps what is said from now on. name: of the conversation, if it gets one."""
        from ..logs.keeping import Keeper  # SQLite takes a moment to import

        self.keeper = Keeper(self.screen, name)

    @property
    def kept(self) -> int | None:
        """The number of the conversation, if it is kept."""
        return self.keeper and self.keeper.conversation

    def follow(self) -> None:
        """Keeps what a command changed of the conversation."""
        if self.keeper is not None:
            self.keeper.follow(self.chat, self.model_name, self.adapter)

    def begin_anew(self) -> None:
        """What follows is kept as another conversation."""
        if self.keeper is not None:
            self.keeper.begin_anew()

    def remember(self) -> None:
        """Keeps what the model has read of a kept conversation, beside what goes on."""
        if self.prompts is not None and self.kept is not None:
            self.prompts.of = str(self.kept)
            self.chat.remember()

    def remember_prompt(self) -> None:
        """Keeps what the model has read of a long prompt: others may begin so."""
        if self.prompts is not None:
            from mlx_gemma4.decoding.prefixes import FEW

            self.chat.remember(FEW, answer=False)

    def close_prompts(self) -> None:
        """Waits until all that is to be kept is written."""
        if self.prompts is not None:
            end(self.prompts, self.screen)
            self.prompts = None

    def _show_chunk(self, chunk: Chunk) -> None:
        if chunk.thought:
            self.screen.thought(chunk.thought)
        if chunk.text and self.chat.form:  # JSON is no Markdown
            self.screen.plain(chunk.text)
        elif chunk.text:
            self.screen.answer(chunk.text)
        for call in chunk.tool_calls:
            if self.calls is None or not self.calls.takes(call.name):
                self.screen.tool_call(call)

    def show_end(self) -> None:
        """What follows an answer, finished or stopped."""
        answer = self.chat.last
        if answer is None:
            return
        if self.screen.as_json:
            self.answers.append(self.answer_object(answer))
            return
        if self.show_stats and answer.stats is not None:
            self.screen.note(stats_line(answer.stats))
        for note in ends_of(answer):
            self.screen.note(note)

    def answer_object(self, answer: Response) -> dict[str, Any]:
        """The answer as `--json` prints it. Times in seconds, memory in bytes."""
        stats = answer.stats
        return {
            **told(answer),
            "timings": {
                "load_s": round(self.load_seconds, 4),
                "ttft_s": stats and round(stats.time_to_first_token, 4),
                "prefill_tps": stats and round(stats.prefill_tps, 2),
                "decode_tps": stats and round(stats.decode_tps, 2),
                "draft_gain_s": stats and rounded(stats.draft_gain),
            },
            "peak_memory": stats and stats.peak_memory,
            "kv_bits": stats and stats.kv_bits,
            "model": self.model_name,
        }
