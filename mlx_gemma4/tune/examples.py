"""Records become examples: token ids and which of them are learned.

A conversation is rendered by the checkpoint's own template, and so that its last
answer stands behind exactly the prompt that the model will be given when it is asked.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from ..chat.rendered import Rendered
from ..errors import ChatError, DataError, MediaError
from ..media import Span, find_spans
from ..prompt.processor import Processor
from .errors import listed_problems
from .masks import EMPTY_THOUGHT, END, TURN, Marks, learned
from .media import MediaStore
from .records import Record

Long = Literal["error", "skip", "cut"]
LONGEST_TEXT = 10_000_000  # characters that are encoded at once


@dataclass(frozen=True)
class Example:
    """`tokens` and, for each, whether it is learned; its media are the encoder's."""

    tokens: list[int]
    learned: list[bool]
    record: Record

    @property
    def supervised(self) -> int:
        """Tokens that count in the loss; the first has nothing before it."""
        return sum(self.learned[1:])

    def cut(self, length: int) -> "Example":
        return replace(self, tokens=self.tokens[:length], learned=self.learned[:length])


def repeated(examples: Sequence[Example], held: Sequence[Example]) -> int:
    """How many of `held` are among `examples`, word for word, with the same files."""
    known = {_identity(example) for example in examples}
    return sum(_identity(example) in known for example in held)


def _identity(example: Example) -> tuple[object, ...]:
    return (tuple(example.tokens), tuple(example.learned), tuple(example.record.media))


@dataclass
class Encoded:
    """The examples of some records, and what was done to those that were too long.

    kept: bytes of their media that stay in memory.
    """

    examples: list[Example] = field(default_factory=list)
    kept: int = 0
    skipped: int = 0
    cut: int = 0
    split: int = 0

    @property
    def tokens(self) -> int:
        return sum(len(example.tokens) for example in self.examples)

    @property
    def supervised(self) -> int:
        return sum(example.supervised for example in self.examples)

    @property
    def longest(self) -> int:
        return max((len(example.tokens) for example in self.examples), default=0)


class Encoder:
    """Renders, encodes and masks, each record once.

    length: the most tokens of an example. Text is split into pieces of it.
    long: what becomes of longer conversations: an error, left out, or cut at the end.
    """

    def __init__(
        self,
        processor: Processor,
        length: int = 2048,
        long: Long = "error",
        image_tokens: int | None = None,
    ):
        self.processor = processor
        self.length = length
        self.long = long
        self._media = MediaStore(processor, image_tokens)
        self._found: Marks | None = None
        self._unopened: set[object] = set()  # shapes of prompts without a thought

    @property
    def _marks(self) -> Marks:
        self._found = self._found or Marks.of(self.processor)
        return self._found

    def encode(self, records: Iterable[Record]) -> Encoded:
        """Examples of all records. Raises DataError that lists every unusable one."""
        result, problems = Encoded(), []
        held = self._media.nbytes
        for record in records:
            try:
                self._add(record, result)
            except (ChatError, MediaError, DataError) as error:
                problems.append(f"{record.where} {_without_stop(error)}")
        if problems:
            raise DataError(listed_problems(problems))
        result.kept = self._media.nbytes - held
        if not result.supervised:
            raise DataError(
                "There is nothing to learn: no example has a token that the model "
                "would say. Examples need an assistant message, a completion or text."
            )
        return result

    def spans(self, example: Example) -> list[Span]:
        """The media of an example and where they stand among its tokens."""
        if not example.record.has_media:
            return []
        read = self._media.attach(example.record.messages)
        return find_spans(example.tokens, read.attached)

    def _add(self, record: Record, result: Encoded) -> None:
        if record.text:
            pieces = self._pieces(record)
            result.split += len(pieces) > 1
            result.examples += pieces
            return
        example = self._conversation(record)
        if len(example.tokens) > self.length:
            if self.long == "error":
                raise DataError(
                    f"has {len(example.tokens)} tokens, more than {self.length}: raise "
                    "the limit, or have long examples cut or skipped"
                )
            if self.long == "skip":
                result.skipped += 1
                return
            if record.has_media:
                raise DataError("has media and is too long: it cannot be cut")
            example = example.cut(self.length)
            result.cut += 1
        if not example.supervised:
            raise DataError("has nothing to learn: no token is the model's own")
        result.examples.append(example)

    def _pieces(self, record: Record) -> list[Example]:
        """A text in pieces, each behind a begin-of-sequence token."""
        if len(record.text) > LONGEST_TEXT:  # it takes 200 bytes a character to encode
            count = f"{len(record.text):,}"
            raise DataError(f"is one text of {count} characters: divide it into lines")
        tokenizer = self.processor.tokenizer
        start, *body = tokenizer.encode_document(record.text)
        media = _media_names(self.processor)
        if mark := next((media[token] for token in body if token in media), None):
            raise DataError(f"has the mark {mark}, and text has no media: use messages")
        if not body or body[-1] != tokenizer.eos_token_id:
            body.append(tokenizer.eos_token_id)
        room = self.length - 1
        pieces = [body[i : i + room] for i in range(0, len(body), room)]
        return [
            Example([start, *piece], [False] + [True] * len(piece), record)
            for piece in pieces
        ]

    def _conversation(self, record: Record) -> Example:
        _refuse_marks(record)
        rendered = self._rendered(record)
        inputs = self.processor.encode(rendered, self._media.attach(record.messages))
        tokens = cast(list[int], inputs.tokens[0].tolist())
        return Example(tokens, learned(tokens, self._marks), record)

    def _rendered(self, record: Record) -> Rendered:
        """The conversation, its last answer behind the prompt that it will get."""
        tools, thinking = record.tools or None, record.thinking
        render = self.processor.render
        whole = render(record.messages, tools, thinking, add_generation_prompt=False)
        *before, last = record.messages
        shape = _shape(record)
        if not before or last["role"] != "assistant" or shape in self._unopened:
            return whole
        prompt = render(before, tools, thinking).text
        if not prompt.endswith(EMPTY_THOUGHT):
            self._unopened.add(shape)
        at = _where_thought_is_missing(whole.text, prompt)
        return whole.insert(at, EMPTY_THOUGHT) if at else whole


def _shape(record: Record) -> object:
    """What a template's way of opening the last answer can depend on: who said what
    kind of thing, not in which words."""
    said = ((m["role"], frozenset(k for k in m if m[k])) for m in record.messages[:-1])
    return tuple(said), bool(record.tools), record.thinking


def _where_thought_is_missing(text: str, prompt: str) -> int:
    """Where the template's prompt has an empty thought that `text` has not, or 0.

    Google's template for the large models opens an answer without thinking with one,
    and takes it out again when the answer is there.
    """
    if not prompt.endswith(EMPTY_THOUGHT):
        return 0
    before = prompt.removesuffix(EMPTY_THOUGHT)
    if text.startswith(prompt) or not text.startswith(before):
        return 0
    return len(before)


def _refuse_marks(record: Record) -> None:
    """Marks of turns inside a text would be taken for turns."""
    for number, message in enumerate(record.messages):
        content = message.get("content") or ""
        parts = [content] if isinstance(content, str) else content
        texts = [p if isinstance(p, str) else p.get("text") or "" for p in parts]
        texts += [v for k, v in message.items() if k != "content" and type(v) is str]
        for mark in (TURN, END):
            if any(mark in text for text in texts):
                raise DataError(f"has the mark {mark} inside messages[{number}]")


def _without_stop(error: Exception) -> str:
    return str(error).rstrip(".")


def passages(example: Example, processor: Processor) -> list[tuple[str, bool]]:
    """The text of an example in runs: (text, learned). Media are counted, not shown."""
    media = _media_names(processor)
    runs: list[tuple[list[int], bool]] = []
    for token, mark in zip(example.tokens, example.learned, strict=True):
        last = runs[-1] if runs else None
        same = last and last[1] == mark and (last[0][-1] in media) == (token in media)
        if last and same and (token not in media or last[0][-1] == token):
            last[0].append(token)
        else:
            runs.append(([token], mark))
    return [
        (f"{media[tokens[0]]}×{len(tokens)}", mark)
        if tokens[0] in media
        else (processor.tokenizer.decode(tokens), mark)
        for tokens, mark in runs
    ]


def _media_names(processor: Processor) -> dict[int, str]:
    config = processor.config
    ids = (config.image_token_id, config.video_token_id, config.audio_token_id)
    known = [token for token in ids if token is not None]
    return {token: processor.tokenizer.decode([token]) for token in known}
