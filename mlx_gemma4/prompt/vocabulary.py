"""Whether the ids that a checkpoint's files speak of have rows in the model's tables.

An id behind a table reads whatever else lies in memory: answers without sense, or a
crash, and no error. So all are compared when a checkpoint is opened, before any weight
is read. Tables may have more rows than there are tokens: most are padded.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..chat.tokenizer import Tokenizer
from ..config import Config
from ..errors import CheckpointError
from ..media import Kind
from ..reading.json_file import read_json
from .attachments import WRITTEN

GENERATION_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "suppress_tokens")
REMEDY = (
    "Take all files from one checkpoint; a token that was added needs a row in every "
    "table."
)


class MarksWarning(UserWarning):
    """config.json and tokenizer.json give a mark of media different ids."""


def perceived(config: Config) -> Iterator[Kind]:
    """The kinds of media that a model takes in."""
    if config.vision_config is not None:
        yield "image"
        if config.video_token_id is not None:
            yield "video"
    if config.audio_config is not None:
        yield "audio"


def check_folder(folder: Path, config: Config) -> None:
    """As `check_vocabulary`, where a folder has a tokenizer."""
    if (folder / "tokenizer.json").is_file():
        check_vocabulary(folder, Tokenizer(folder), config)


def check_vocabulary(folder: Path, tokenizer: Tokenizer, config: Config) -> None:
    """Compare the ids in the files of a checkpoint folder with its model's tables.

    Raises CheckpointError that names every file, id and number of rows that do not fit.
    Warns with MarksWarning of media that cannot be put into a prompt.
    """
    problems = [
        *_tokens_without_row(folder, tokenizer, config),
        *_stated_without_row(folder, config),
    ]
    if problems:
        raise CheckpointError(f"{'; '.join(problems)}. {REMEDY}")
    wrong = {k: [*_contradictions(k, tokenizer, config)] for k in perceived(config)}
    if kinds := [kind for kind, found in wrong.items() if found]:
        said = dict.fromkeys(each for found in wrong.values() for each in found)
        warnings.warn(
            f"{folder}: {'; '.join(said)}. Prompts with parts of type "
            f"{' or '.join(kinds)} are refused. {REMEDY}",
            MarksWarning,
            stacklevel=4,
        )


def check_tokens(tokens: Iterable[Sequence[int]], config: Config) -> None:
    """Raises CheckpointError for a token of some sequences that has no row."""
    if lost := [i for each in tokens for i in each if not config.has_row(i)]:
        raise CheckpointError(
            f"The text becomes the token {max(lost)}, {_rows(max(lost), config)}. "
            f"{REMEDY}"
        )


def _tokens_without_row(
    folder: Path, tokenizer: Tokenizer, config: Config
) -> Iterator[str]:
    """The last token of tokenizer.json, if not all have a row."""
    beyond = tokenizer.tokens_from(config.text_config.token_rows)
    lost = {i: token for token, i in beyond.items() if not config.has_row(i)}
    if lost:
        token = max(lost)
        which = f"the id {token} ({lost[token]!r})"
        yield f"{folder / 'tokenizer.json'} goes up to {which}, {_rows(token, config)}"


def _stated_without_row(folder: Path, config: Config) -> Iterator[str]:
    """Ids in generation_config.json and config.json that have no row."""
    file = folder / "generation_config.json"
    stated: Mapping[str, Any] = read_json(file)
    for key in GENERATION_IDS:
        yield from _beyond(f"{file}: {key}", stated.get(key), config)
    file = folder / "config.json"
    yield from _beyond(f"{file}: eos_token_id", config.eos_token_id, config)
    top = read_json(file)
    for section in (top, top.get("text_config")):  # bos is not read, but stated
        bos = section.get("bos_token_id") if isinstance(section, dict) else None
        yield from _beyond(f"{file}: bos_token_id", bos, config)
    for kind in perceived(config):
        for key in WRITTEN[kind]:
            yield from _beyond(f"{file}: {key}", getattr(config, key), config)


def _beyond(what: str, stated: Any, config: Config) -> Iterator[str]:
    listed = stated if isinstance(stated, list | tuple) else [stated]
    for token in listed:  # those who read the file name what is no id at all
        if type(token) is int and token >= 0 and not config.has_row(token):
            yield f"{what} is {token}, {_rows(token, config)}"


def _rows(token: int, config: Config) -> str:
    text = config.text_config
    if not 0 <= token < text.vocab_size:
        return f"but the embeddings have {text.vocab_size} rows (vocab_size)"
    rows = text.vocab_size_per_layer_input
    return f"but the per-layer embeddings have {rows} rows (vocab_size_per_layer_input)"


def _contradictions(kind: Kind, tokenizer: Tokenizer, config: Config) -> Iterator[str]:
    for key, mark in WRITTEN[kind].items():
        stated, found = getattr(config, key), tokenizer.token_id(mark)
        if stated is not None and stated != found:
            known = (
                f"has no {mark}" if found is None else f"gives {mark} the id {found}"
            )
            yield f"{key} in config.json is {stated}, but tokenizer.json {known}"
