"""What a call to the model returns, and how generated ids become it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..chat.calls import ToolCall, openai_call
from ..chat.splitter import Fragment, Splitter, StopStrings
from ..chat.tools import parse_call
from ..prompt.processor import Processor

SHOWN = ("answer", "malformed_call")  # kinds of fragments
# "closed": what has a form, an answer or a call, was brought to a valid end where its
# budget was spent; "loop": it said the same again and again; "tool_limit": no further
# call was allowed.
FinishReason = Literal[
    "stop", "length", "closed", "loop", "tool_calls", "malformed_call", "tool_limit"
]
UNFINISHED = ("length", "closed", "loop")  # ends of answers that are not whole


@dataclass
class Stats:
    """What a call did and took. Times in seconds, memory in bytes.

    loops counts thoughts that were closed because they went round in circles.
    prompt_tokens counts all of the prompt, cached_tokens those of it that were already
    in the prefix cache. thought_tokens counts those of the answer that are a thought's,
    its marks among them. drafted counts tokens that were proposed, accepted those of
    them that were right; draft_gain is the time that they saved, as far as it can be
    told: of steps without drafts, None. kv_bits is what full layers were kept in; None
    is as they were computed.
    """

    prompt_tokens: int
    cached_tokens: int
    seed: int
    completion_tokens: int = 0
    time_to_first_token: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    peak_memory: int = 0
    loops: int = 0
    thought_tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    draft_gain: float | None = None
    kv_bits: int | None = None

    @property
    def prefill_tps(self) -> float:
        """Prompt tokens read per second, the cached ones not counted."""
        read = self.prompt_tokens - self.cached_tokens
        return read / self.prefill_seconds if self.prefill_seconds else 0.0

    @property
    def decode_tps(self) -> float:
        """Tokens per second after the first."""
        later = self.completion_tokens - 1
        return later / self.decode_seconds if self.decode_seconds else 0.0


@dataclass(frozen=True)
class Chunk:
    """What one generated token added. The last chunk has a finish_reason and stats.

    text is new answer, thought new thinking, tool_calls the calls it completed.
    malformed_calls are those that cannot be read, as the model wrote them; their text
    is part of the answer as well. stop is the stop string that ended the answer.
    """

    text: str
    token: int
    thought: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    malformed_calls: tuple[str, ...] = ()
    finish_reason: FinishReason | None = None
    stats: Stats | None = None
    stop: str | None = None


@dataclass
class Response:
    """An answer, as far as it has come; whole once it has a finish_reason.

    `tokens` are the generated ids, the stop token included.
    """

    text: str = ""
    thought: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    malformed_calls: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stats: Stats | None = None

    @classmethod
    def of(cls, chunks: Iterable[Chunk]) -> "Response":
        """The whole answer that `chunks` make."""
        response = cls()
        for chunk in chunks:
            response.add(chunk)
        return response

    def add(self, chunk: Chunk) -> None:
        self.text += chunk.text
        self.thought += chunk.thought
        self.tool_calls += chunk.tool_calls
        self.malformed_calls += chunk.malformed_calls
        self.tokens.append(chunk.token)
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self.stats = chunk.stats or self.stats

    def message(self) -> dict[str, Any]:
        """The answer as the message that follows the question."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.thought:
            message["reasoning"] = self.thought
        if self.tool_calls:
            message["tool_calls"] = [
                openai_call(call, f"call_{n}") for n, call in enumerate(self.tool_calls)
            ]
        return message


class Writer:
    """Turns generated ids into chunks of text and decides when the answer ends.

    only_marks: the answer is held to something, so that only special tokens are marks:
        text that looks like one is what a form demands, or words.
    plain: not even those are marks: all is text of the answer.
    """

    def __init__(
        self,
        processor: Processor,
        inside_thought: bool,
        stop: Sequence[str],
        only_marks: bool = False,
        plain: bool = False,
    ) -> None:
        self._stop_tokens = frozenset(processor.generation.stop_tokens)
        self._detokenizer = processor.tokenizer.detokenizer()
        special = processor.tokenizer.special_tokens
        self._special_ids = frozenset(special.values())
        self._splitter = Splitter(inside_thought, special)
        self._stops = StopStrings(stop)
        self._called = self._malformed = False
        self._only_marks, self._plain = only_marks, plain

    @property
    def inside_thought(self) -> bool:
        """Whether a thought is open behind the last token."""
        return self._splitter.inside_thought

    def take(self, token: int, last: bool) -> Chunk:
        """The chunk of one more token; `last` says that no further one will come."""
        ends = token in self._stop_tokens
        # A stop mark may close a call; a stop token of plain text says nothing.
        silent = ends and (self._plain or token not in self._special_ids)
        text = "" if silent else self._detokenizer.add(token)
        if ends or last:
            text += self._detokenizer.finish()
        is_text = self._plain or (self._only_marks and token not in self._special_ids)
        if is_text and self._splitter.inside_answer:
            fragments = [Fragment("answer", text)]
        else:
            fragments = self._splitter.feed(text)
        if ends or last:
            fragments += self._splitter.finish()
        answer = "".join(f.text for f in fragments if f.kind in SHOWN)
        thought = "".join(f.text for f in fragments if f.kind == "thought")
        calls = tuple(
            call
            for fragment in fragments
            if fragment.kind == "tool_call"
            for call in parse_call(fragment.text)
        )
        malformed = tuple(f.text for f in fragments if f.kind == "malformed_call")
        shown, hit = self._stops.feed(answer)
        if (ends or last) and not hit:
            shown += self._stops.finish()
            hit = self._stops.hit
        self._called |= bool(calls)
        self._malformed |= bool(malformed)
        reason: FinishReason | None = None
        if hit:
            reason = "stop"
        elif ends:
            called: FinishReason = "tool_calls" if self._called else "stop"
            reason = "malformed_call" if self._malformed else called
        elif last:
            reason = "length"
        return Chunk(
            shown, token, thought, calls, malformed, reason, stop=self._stops.met
        )
