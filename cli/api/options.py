"""How an answer is to be made, in the words of OpenAI's requests and of others' like
them."""

from typing import Any

from .fields import Fields

# What changes no answer of this server: bookkeeping, and how others bill and cache.
HARMLESS = frozenset(
    {
        *("model", "user", "metadata", "store", "service_tier", "safety_identifier"),
        *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
        *("keep_alive", "cache_prompt", "stream_options"),
    }
)
# Of a form, which holds by construction, strict or not: its schema is all that is read.
FORM_NOTES = ("name", "description", "strict")
SAMPLING = frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p", "seed", "stop", "logit_bias"),
        *("presence_penalty", "frequency_penalty", "repetition_penalty"),
        *("max_tokens", "max_completion_tokens"),
    }
)
# Tokens of a thought, by how much thinking is asked for; None does not limit it.
EFFORTS: dict[str, int | None] = {
    "minimal": 0,
    "none": 0,
    "low": 1024,
    "medium": 8192,
    "high": None,
    "xhigh": None,
    "max": None,
}


def sampling(fields: Fields) -> dict[str, Any]:
    """The options of `stream_generate` that say how tokens are drawn, and how many."""
    options: dict[str, Any] = {
        "temperature": fields.number("temperature", 0),
        "top_p": fields.number("top_p", 0, 1),
        "top_k": fields.whole("top_k", 0),
        "min_p": fields.number("min_p", 0, 1),
        "repetition_penalty": fields.number("repetition_penalty", 0.01),
        "presence_penalty": fields.number("presence_penalty", -2, 2),
        "frequency_penalty": fields.number("frequency_penalty", -2, 2),
        "seed": fields.whole("seed", -(2**63), 2**64 - 1),
        "max_tokens": fields.whole("max_tokens", 1),
    }
    if (most := fields.whole("max_completion_tokens", 1)) is not None:
        options["max_tokens"] = most
    options["stop"] = _stop(fields)
    options["logit_bias"] = _bias(fields)
    if (seed := options["seed"]) is not None:
        options["seed"] = seed % 2**64
    return {name: value for name, value in options.items() if value is not None}


def thinking(effort: str) -> dict[str, Any]:
    """The options for one of EFFORTS."""
    budget = EFFORTS[effort]
    return {"thinking": budget != 0, "think_budget": budget or None}


def _stop(fields: Fields) -> list[str] | None:
    stop = fields.values.get("stop")
    stop = [stop] if isinstance(stop, str) else stop
    if stop is None:
        return None
    if not isinstance(stop, list) or not all(isinstance(s, str) and s for s in stop):
        raise fields.wrong(
            "stop", "must be a string that is not empty, or a list of some"
        )
    return stop or None


def _bias(fields: Fields) -> dict[int, float] | None:
    biases = fields.object("logit_bias")
    if biases is None or not biases.values:
        return None
    if not all(token.isascii() and token.isdigit() for token in biases.values):
        raise fields.wrong("logit_bias", "must have tokens' ids for keys")
    return {
        int(token): biases.number(token, -100, 100) or 0.0 for token in biases.values
    }
