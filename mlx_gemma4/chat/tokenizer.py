"""Text to token ids and back, on the `tokenizers` package alone.

Gemma's decoder replaces "▁" by a space, joins runs of byte tokens (`<0xE2>` …) and
decodes each run as a whole: one bad byte turns every byte of its run into U+FFFD. A
run is therefore only known once it has ended, and streaming waits for that.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ChatError, CheckpointError
from ..reading.json_file import read_json
from ..reading.pointers import START, refuse_pointer
from .rendered import Rendered

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend
    from transformers import PreTrainedTokenizerFast

SPACE = "▁"
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
DECODER = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ],
}
MAX_GROWTH = 16  # characters for one; in Gemma's a blank becomes SPACE


class Detokenizer:
    """Decodes one token at a time; `add`s and `finish` join to `decode` of them all."""

    def __init__(self, tokenizer: "Tokenizer"):
        self._tokenizer = tokenizer
        self._run = bytearray()

    def add(self, token: int) -> str:
        """The text that this token completes, often all of its own."""
        piece = self._tokenizer.piece(token)
        if isinstance(piece, int):
            self._run.append(piece)
            return ""
        # An id without a piece decodes to nothing and does not end a run of bytes.
        return "" if piece is None else self.finish() + piece

    def pending(self) -> str:
        """What `finish` would return now."""
        try:
            return self._run.decode("utf-8")
        except UnicodeDecodeError:
            return "\ufffd" * len(self._run)

    def finish(self) -> str:
        """The text still held back: a run of byte tokens at the end."""
        text = self.pending() if self._run else ""
        self._run.clear()
        return text


class Tokenizer:
    """The tokenizer of a checkpoint folder.

    `special_tokens` maps the text of every special token to its id. Raises
    CheckpointError where tokenizer.json is missing, damaged or of another kind.
    """

    def __init__(self, folder: Path):
        self._backend = _load(folder / "tokenizer.json")
        named = _named_tokens(folder)
        self.special_tokens = _special_tokens(self._backend, named)
        self.bos_token, self.bos_token_id = self._required(named, "bos_token", "<bos>")
        self.eos_token, self.eos_token_id = self._required(named, "eos_token", "<eos>")
        longest_first = sorted(self.special_tokens, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._pieces: dict[int, str | int | None] = {}

    def _required(
        self, named: Mapping[str, str], key: str, default: str
    ) -> tuple[str, int]:
        token = named.get(key, default)
        if (token_id := self.token_id(token)) is None:
            raise CheckpointError(
                f"tokenizer.json has no {key} {token!r}: it does not belong to this "
                "checkpoint. Download tokenizer.json and tokenizer_config.json again."
            )
        return token, token_id

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; special tokens in it become their ids, nothing is added."""
        return self._ids(text, add_special_tokens=False)

    def encode_text(self, text: str) -> list[int]:
        """Ids to go on from a text that no template wrote, as the reference has them.

        The tokenizer.json of base models begins a text with <bos>, that of models that
        chat leaves it to the template. A text that has its <bos> gets no second one.
        """
        has_bos = text.startswith(self.bos_token)
        return self._ids(text, add_special_tokens=not has_bos)

    def encode_document(self, text: str | Rendered) -> list[int]:
        """Ids of a text to learn from or to measure with, behind one <bos>.

        Every Gemma was trained to read text behind it, whatever its tokenizer adds.
        """
        rendered = Rendered((text,)) if isinstance(text, str) else text
        tokens = self.encode_rendered(rendered)
        has_bos = tokens[:1] == [self.bos_token_id]
        return tokens if has_bos else [self.bos_token_id, *tokens]

    def _ids(self, text: str, add_special_tokens: bool) -> list[int]:
        try:
            return self._backend.encode(text, add_special_tokens=add_special_tokens).ids
        except TypeError:
            raise ChatError(
                "The text holds half of a surrogate pair and is no valid Unicode; "
                "check the encoding it was read with."
            ) from None

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`, special tokens included."""
        return self._backend.decode(list(tokens), skip_special_tokens=False)

    def token_id(self, token: str) -> int | None:
        """The id of one token by its exact text, or None."""
        return self._backend.token_to_id(token)

    def to_json(self) -> str:
        """All of it, as tokenizer.json holds it."""
        return self._backend.to_str()

    def tokens_from(self, first: int) -> dict[str, int]:
        """All tokens whose id is `first` or more, with their ids."""
        count = self._backend.get_vocab_size(with_added_tokens=True)
        # Hardly any tokenizer leaves out as many ids as it has.
        below = list(map(self._backend.id_to_token, range(min(first, 2 * count))))
        if len(below) - below.count(None) == count:
            return {}  # in half of the time that all tokens with their ids take
        vocabulary = self._backend.get_vocab(with_added_tokens=True)
        return {token: i for token, i in vocabulary.items() if i >= first}

    def piece(self, token: int) -> str | int | None:
        """The text of one token, a byte token's value, or None for an unknown id."""
        if token not in self._pieces:
            text = self._backend.id_to_token(token)
            byte = BYTE_TOKEN.fullmatch(text) if text is not None else None
            self._pieces[token] = (
                int(byte[1], 16) if byte else text and text.replace(SPACE, " ")
            )
        return self._pieces[token]

    def detokenizer(self) -> Detokenizer:
        return Detokenizer(self)

    def for_transformers(self) -> "PreTrainedTokenizerFast":
        """The same as `transformers` has it; imports that package."""
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast(
            tokenizer_object=self._backend,
            bos_token=self.bos_token,
            eos_token=self.eos_token,
        )

    def encode_rendered(self, rendered: Rendered, start: int = 0) -> list[int]:
        """Ids of a prompt from character `start` on. Special tokens that it only quotes
        become the ids of their letters."""
        tokens: list[int] = []
        for part in rendered.parts:
            tokens += self.encode(part[max(0, start) :])
            start -= len(part)
        return tokens

    def continue_tokens(self, cached: Sequence[int], rendered: Rendered) -> list[int]:
        """Ids for all of a prompt that keep as many of the `cached` ids as is safe.

        What a model wrote is rarely split the way encoding would split it. A prefix of
        `cached` may stay where it decodes to a prefix of the prompt that a special
        token follows, because no token spans that place. The result decodes to the
        prompt, has the same special tokens, and shares no less with `cached` than
        `encode_rendered` does.
        """
        kept, end = self._longest_cut(cached, rendered)
        tokens = [*cached[:kept], *self.encode_rendered(rendered, end)]
        if kept and self.decode(tokens) != rendered.text.replace(SPACE, " "):
            return self.encode_rendered(rendered)
        return tokens

    def _longest_cut(
        self, cached: Sequence[int], rendered: Rendered
    ) -> tuple[int, int]:
        """The longest safe prefix of `cached`, as (tokens, characters of the text)."""
        best, end = (0, 0), 0
        text = rendered.text.replace(SPACE, " ")  # as decoding gives it back
        special = dict(rendered.find(self._special))
        names = {token: name for name, token in self.special_tokens.items()}
        detokenizer = self.detokenizer()
        for count, token in enumerate(cached, start=1):
            added = detokenizer.add(token)
            start, end = end, end + len(added)
            found = {at: special[at] for at in range(start, end) if at in special}
            name = names.get(token)
            wanted = {} if name is None else {end - len(name): name}
            if not text.startswith(added, start) or found != wanted:
                break
            pending = detokenizer.pending()
            cut = end + len(pending)
            if cut in special and text.startswith(pending, end):
                best = (count, cut)
        return best


def _load(path: Path) -> "Backend":
    from tokenizers import Tokenizer as Backend

    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing. Download the checkpoint again with tokenizer.json."
        )
    with path.open("rb") as stream:
        refuse_pointer(path, stream.read(len(START)))
    try:
        backend = Backend.from_file(str(path))
    except Exception as error:  # the package raises nothing more specific
        raise CheckpointError(
            f"{path} is not a usable tokenizer ({error}). Download it again."
        ) from None
    decoder = backend.decoder
    if decoder is None or json.loads(decoder.__getstate__()) != DECODER:
        raise CheckpointError(
            f"{path} decodes in another way than Gemma 4's tokenizer; use the "
            "tokenizer.json of the original model."
        )
    normalizer = json.loads(
        backend.normalizer.__getstate__() if backend.normalizer else "{}"
    )
    if (growth := _growth(normalizer)) > MAX_GROWTH:
        raise CheckpointError(
            f"{path} makes up to {growth} characters of one that it reads; use the "
            "tokenizer.json of the original model."
        )
    if getattr(backend.model, "dropout", None):
        backend.model.dropout = None  # of training: the same text would vary
    backend.no_truncation()
    backend.no_padding()
    return backend


def _growth(normalizer: Mapping[str, Any]) -> int:
    """How many characters a normalizer can make of one."""
    longest = max(1, len(normalizer.get("content", "")))
    return math.prod(map(_growth, normalizer.get("normalizers", ())), start=longest)


def _named_tokens(folder: Path) -> dict[str, str]:
    """Special tokens by name, as the two configuration files beside it give them."""
    named: dict[str, str] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        named.update(_tokens_in(read_json(folder / file)))
    return named


def _tokens_in(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        if isinstance(value, Mapping) and isinstance(value.get("content"), str):
            value = value["content"]
        if key.endswith("_token") and isinstance(value, str):
            yield key, value
        elif key.endswith("special_tokens") and isinstance(value, Mapping):
            yield from _tokens_in(value)
        elif key.endswith("special_tokens") and isinstance(value, list):
            yield from _tokens_in({f"{key}_{i}_token": t for i, t in enumerate(value)})


def _special_tokens(backend: "Backend", named: Mapping[str, str]) -> dict[str, int]:
    """Every special token, after making those named but not added match as one."""
    added = backend.get_added_tokens_decoder()
    known = {token.content for token in added.values() if token.special}
    extra = set(named.values()) - known
    present = [token for token in extra if backend.token_to_id(token) is not None]
    backend.add_special_tokens(sorted(present))
    return {
        token.content: token_id
        for token_id, token in backend.get_added_tokens_decoder().items()
        if token.special or token.content in present
    }
