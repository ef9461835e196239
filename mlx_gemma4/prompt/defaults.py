"""What a checkpoint's generation_config.json says: read by what its values do.

How to sample, where to stop and what never to say is obeyed. Of the rest, what would
change an answer is told to the user in one line, as is what is not known.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..chat.tokenizer import Tokenizer
from ..config import Config, ConfigWarning
from ..errors import ChatError, CheckpointError
from ..reading.json_file import read_json
from ..reading.neutral import NEUTRAL, is_empty, is_neutral
from ..reading.section import Section
from ..sampling import Sampling

# A turn is over after the first; after the second, the tool would have to speak.
END_OF_TURN = ("<turn|>", "<|tool_response>")
# What the reference takes for the rest where a file says how to sample.
UNSTATED = Sampling(temperature=1.0, top_p=1.0, top_k=50)
SAMPLED = ("temperature", "top_p", "top_k", "min_p")
LENGTHS = ("max_length", "max_new_tokens")


@dataclass(frozen=True)
class GenerationDefaults:
    """How to sample unless told otherwise; `stop_tokens` end an answer, and
    `suppress_tokens` are never drawn, however tokens are chosen."""

    sampling: Sampling = Sampling()
    stop_tokens: tuple[int, ...] = ()
    suppress_tokens: tuple[int, ...] = ()

    @classmethod
    def from_file(
        cls, path: Path, config: Config, tokenizer: Tokenizer
    ) -> "GenerationDefaults":
        """What a generation_config.json states; where there is none, or it says nothing
        of sampling, the settings that the model card recommends.

        Raises CheckpointError for values that no answer can be made with; warns with
        ConfigWarning of what is not obeyed.
        """
        section = Section(path, "", read_json(path))
        found = cls(
            _sampling(section),
            _stop_tokens(section, config, tokenizer),
            _suppressed(section, config.text_config.vocab_size),
        )
        if set(found.stop_tokens) <= set(found.suppress_tokens):
            section.refuse(
                "suppress_tokens",
                ": no answer would end without these",
            )
        context = config.text_config.max_position_embeddings
        rest = sorted(section.rest().items())
        told = [key for key, value in rest if not _does_nothing(key, value, context)]
        if told:
            warnings.warn(
                f"{path} states {', '.join(told)}, which this version does not obey.",
                ConfigWarning,
                stacklevel=3,
            )
        return found


def _sampling(section: Section) -> Sampling:
    """Within the bounds of an answer's options."""
    section.must_be("do_sample", True, False, otherwise=", not true or false")
    says = any(section.values.get(key) is not None for key in SAMPLED)
    base = UNSTATED if says or section.values.get("do_sample") else Sampling()
    given = {key: section.number(key, getattr(base, key)) for key in SAMPLED}
    given["repetition_penalty"] = section.number("repetition_penalty", 1.0)
    if given["top_k"] % 1 == 0:  # 64.0 is a whole number, and -1 is vLLM's "off"
        given["top_k"] = 0 if given["top_k"] == -1 else int(given["top_k"])
    try:
        sampling = base.but_with(**given)
    except ChatError as error:
        raise CheckpointError(f"{section.path}: {error}") from None
    greedy = section.values.get("do_sample") is False
    return sampling.but_with(temperature=0.0) if greedy else sampling


def _stop_tokens(
    section: Section, config: Config, tokenizer: Tokenizer
) -> tuple[int, ...]:
    """Those of every file, and the marks that end a turn."""
    stated = section.ids("eos_token_id", config.text_config.vocab_size)
    marks = (tokenizer.special_tokens.get(mark) for mark in END_OF_TURN)
    stop = {*stated, *config.eos_token_id, tokenizer.eos_token_id}
    stop |= {token for token in marks if token is not None}
    return tuple(sorted(stop))


def _suppressed(section: Section, vocabulary: int) -> tuple[int, ...]:
    tokens = section.ids("suppress_tokens", vocabulary, single=False)
    if len(set(tokens)) == vocabulary:
        section.refuse("suppress_tokens", ": no token would be left")
    return tokens


def _does_nothing(key: str, value: Any, context: int) -> bool:
    if key in LENGTHS and type(value) is int and value >= context:
        return True
    if key in NEUTRAL:
        # 0 is an id, and a length: it switches nothing off.
        return is_empty(value) or value in NEUTRAL[key]
    return is_neutral(key, value)
