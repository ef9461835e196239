"""What a call is asked to go on from: a conversation or ids, checked."""

from collections.abc import Mapping, Sequence
from functools import partial
from operator import is_not
from typing import Any, Protocol, cast

from ..chat.messages import plain_messages
from ..chat.rendered import Rendered
from ..config import Config
from ..decoding.prefill import Progress, Prompt
from ..decoding.prefix import PrefixCache
from ..decoding.prefixes import PrefixCaches
from ..errors import ChatError, ContextError, RoomError
from ..media import content_keys
from ..prompt.attachments import media_parts
from ..prompt.foretold import Foretold
from ..prompt.processor import Processor


class Fits(Protocol):
    """Raises what is wrong with a prompt of so many tokens, those of its media among
    them."""

    def __call__(self, prompt: int, media: Sequence[Foretold] = ()) -> object: ...


def check_rows(tokens: Sequence[int], config: Config) -> None:
    """Whoever made `tokens`: the model reads nothing that its tables do not hold."""
    rows = config.text_config.token_rows
    if 0 <= min(tokens) and max(tokens) < rows:
        return
    if lost := [token for token in tokens if not config.has_row(token)]:
        raise ChatError(
            f"Token {lost[0]} is not in this model's vocabulary (0 to {rows - 1})."
        )


def checked_ids(tokens: Any, config: Config) -> list[int]:
    """Ids of a list, or of an array `[L]` or `[1, L]`."""
    ids = tokens.tolist() if hasattr(tokens, "tolist") else list(tokens)
    if len(ids) == 1 and isinstance(ids[0], list):
        ids = ids[0]
    if not ids:
        raise ChatError("tokens is empty; give at least one id.")
    for token in ids:
        if not isinstance(token, int):
            raise ChatError(f"tokens holds {token!r}, which is no id.")
    check_rows(ids, config)
    return ids


def token_limit(context: int, prompt: int, max_tokens: int | None) -> int:
    """How many tokens may be generated where prompt and answer may have `context`."""
    if max_tokens is not None and (not isinstance(max_tokens, int) or max_tokens < 1):
        raise ChatError(
            f"max_tokens is {max_tokens!r}; it must be a whole number from 1."
        )
    if prompt >= context:
        raise ContextError(
            f"The prompt has {prompt:,} tokens; it may have at most {context - 1:,}. "
            "Shorten it or start a new conversation."
        )
    room = context - prompt
    return room if max_tokens is None else min(room, max_tokens)


def as_written(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """`messages` with calls in one of their own behind the text that led to them, and
    with results in the order of their calls.

    A model writes the text first. Templates put one that is with calls behind their
    results, end the turn there, and leave the model to go on outside of any. And they
    write no ids: of two results of one tool only the place tells which is which.

    Raises ChatError as `plain_messages`, which counts the messages as they were given.
    """
    if not isinstance(messages, list | tuple):
        return cast(list[Mapping[str, Any]], messages)  # no conversation
    written = _in_order(_apart(messages))
    if len(written) != len(messages) or any(map(is_not, written, messages)):
        plain_messages(messages)
    return written


def _apart(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    apart: list[Mapping[str, Any]] = []
    for message in messages:
        if _has_text_and_calls(message):
            calls = {k: message[k] for k in ("role", "tool_calls") if k in message}
            apart.append({k: v for k, v in message.items() if k != "tool_calls"})
            message = calls
        apart.append(message)
    return apart


def _in_order(messages: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    calls: dict[str, int] = {}  # where a call stands among those of its message

    def place(result: Mapping[str, Any]) -> int:
        return calls.get(str(result.get("tool_call_id")), len(calls))

    ordered: list[Mapping[str, Any]] = []
    results: list[Mapping[str, Any]] = []
    for message in messages:
        if isinstance(message, Mapping) and message.get("role") == "tool":
            results.append(message)
            continue
        ordered += [*sorted(results, key=place), message]
        calls, results = _places(message), []
    return [*ordered, *sorted(results, key=place)]


def _places(message: Any) -> dict[str, int]:
    given = message.get("tool_calls") if isinstance(message, Mapping) else None
    calls = given if isinstance(given, list) else []
    ids = [call.get("id") for call in calls if isinstance(call, Mapping)]
    return {name: n for n, name in enumerate(ids) if isinstance(name, str)}


def _has_text_and_calls(message: Any) -> bool:
    if not isinstance(message, Mapping):
        return False
    content = message.get("content")
    said = content.strip() if isinstance(content, str) else content
    answered = message.get("tool_responses")  # which templates write before the text
    return bool(said and message.get("tool_calls") and not answered)


def prompt_of(
    processor: Processor,
    messages: Sequence[Mapping[str, Any]] | None,
    ids: list[int] | None,
    tools: Sequence[Mapping[str, Any]] | None,
    thinking: bool,
    image_tokens: int | None,
    control_tokens: bool,
    prefix: PrefixCache | PrefixCaches | None,
    fits: Fits | None = None,
    progress: Progress | None = None,
) -> tuple[Prompt, PrefixCache | None]:
    """The prompt, and which cache it is read with.

    fits: is given how many tokens a prompt has, before its media are read; what it
        raises ends the call, and so does what `progress` raises before each of them.
    """
    if messages is None and ids is not None:
        chosen = prefix.closest(ids) if isinstance(prefix, PrefixCaches) else prefix
        if chosen is not None:
            chosen.recall(ids)
        return Prompt(ids, (), ids), chosen
    if messages is None or ids is not None:
        raise ChatError("Give either messages or tokens.")
    messages = as_written(messages)
    rendered = processor.render(
        messages, tools, thinking, control_tokens=control_tokens
    )
    tokens = 0
    if fits and any(True for message in messages for _ in media_parts(message)):
        tokens = check_media(processor, messages, rendered, image_tokens, fits)
    look = progress and partial(progress, 0, tokens)
    media = processor.attach(messages, image_tokens, look)

    def encoded(chosen: PrefixCache | None) -> Prompt:
        inputs = processor.encode(rendered, media, chosen.tokens if chosen else ())
        tokens = cast(list[int], inputs.tokens[0].tolist())
        # Media are told apart, which takes time, only where another prompt may follow.
        keys = content_keys(tokens, inputs.spans) if prefix else tokens
        return Prompt(tokens, inputs.spans, keys)

    if not isinstance(prefix, PrefixCaches):
        if prefix is not None and prefix.keeping and not prefix.tokens:
            prefix.recall(encoded(None).keys)
        return encoded(prefix), prefix
    prompt = encoded(None)
    chosen = prefix.closest(prompt.keys)
    # Anew: an answer may have been written in other tokens than its text has.
    return encoded(chosen) if chosen.tokens else prompt, chosen


def check_media(
    processor: Processor,
    messages: Sequence[Mapping[str, Any]],
    rendered: Rendered,
    image_tokens: int | None,
    fits: Fits,
) -> int:
    """How many tokens a prompt has, about; what `fits` raises of one that has too many
    is raised before its media are read, and of its text before they are looked at.

    The text's tokens are counted only where not even its characters are few enough.
    """
    _counted(processor, rendered, (), fits)
    return _counted(
        processor, rendered, processor.foretell(messages, image_tokens), fits
    )


def _counted(
    processor: Processor, rendered: Rendered, media: Sequence[Foretold], fits: Fits
) -> int:
    soft = sum(each.tokens for each in media)
    tokens = len(rendered.text) + soft
    try:
        fits(tokens, media)
    except (RoomError, ContextError):
        tokens = len(processor.tokenizer.continue_tokens((), rendered)) + soft
        fits(tokens, media)
    return tokens
