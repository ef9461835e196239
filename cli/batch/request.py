"""A line of a batch to what `stream_generate` takes: in the words of `gemma4 chat`, of
OpenAI's chat API, or as a line of OpenAI's batch files."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from mlx_gemma4.media import Kind

from ..api.chat import KNOWN, asked_of
from ..api.fields import Fields
from ..api.options import HARMLESS
from ..api.parts import read_part, with_one_system
from ..errors import InputError
from ..serve.errors import Refused
from ..serve.media import MediaRules
from .enveloped import ENVELOPE, is_enveloped

KINDS: tuple[Kind, ...] = get_args(Kind)
NAMES = ("id", "custom_id", "metadata")  # what an answer has of its line
URL = "/v1/chat/completions"
FORMS = ("schema", "regex", "grammar")
SYSTEMS = ("system", "developer")
OURS = {
    *("prompt", "system", "json_object", "image", "audio", "video", *FORMS),
    *("think", "thinking", "think_budget", "image_tokens", "budget"),
    *("control_tokens", "stop_loops", "strict_tools"),
}
# Beside a medium, by its kind.
OF_PART = {"image": set(), "audio": {"track"}, "video": {"fps", "num_frames"}}
Options = dict[str, Any]


@dataclass(frozen=True)
class Defaults:
    """What holds where a line states nothing else.

    options: of `stream_generate`. rules: which media may be read, and from where.
    """

    options: Options
    system: str | None = None
    rules: MediaRules = field(default_factory=MediaRules)


def names_of(value: Any, number: int) -> dict[str, Any]:
    """What an answer is known by: the line's id, or its number."""
    given = value if isinstance(value, Mapping) else {}
    names = {k: given[k] for k in NAMES if given.get(k) is not None}
    return {"id": names.get("custom_id", number), **names}


def read_request(value: Any, number: int, defaults: Defaults) -> Options:
    """The options of `stream_generate` for the line `number`. Raises InputError and
    MediaError."""
    if isinstance(value, str):
        value = {"prompt": value}
    if not isinstance(value, Mapping):
        raise InputError("The line must be a JSON object, or a text in quotes.")
    try:
        fields = _body(Fields(value, ""))
        return _options(fields, number, defaults)
    except Refused as error:
        raise InputError(error.message) from None


def _body(fields: Fields) -> Fields:
    """What is asked, without the envelope of OpenAI's batch files."""
    for name in ("id", "custom_id"):
        if type(fields.values.get(name, "")) not in (str, int):
            raise fields.wrong(name, "must be a text or a whole number")
    if not is_enveloped(fields.values):
        return fields
    fields.only(ENVELOPE | set(NAMES))
    fields.must("method", "POST")
    fields.must("url", URL)
    if (inner := fields.object("body")) is None:
        raise fields.wrong("body", "is missing")
    return inner


def _options(fields: Fields, number: int, defaults: Defaults) -> Options:
    known = KNOWN | HARMLESS | OURS | set(NAMES)
    if unknown := [name for name in fields.values if name not in known]:
        raise fields.wrong(
            unknown[0],
            "is not known: leave it out, or put it into metadata, which comes back "
            "with the answer",
        )
    apart = OURS | set(NAMES)
    rest = {name: v for name, v in fields.values.items() if name not in apart}
    rest["messages"] = _messages(fields)
    rules = defaults.rules.anew()
    asked = asked_of(Fields(rest, fields.where), rules, part_of)
    form = {**asked.form, **_form(fields)}
    options = {**defaults.options, "tools": asked.tools or defaults.options["tools"]}
    if form:
        options = {k: v for k, v in options.items() if k not in FORMS} | form
    if options["seed"] is not None:  # a line's answer is not that of the one before
        options["seed"] = (options["seed"] + number - 1) % 2**64
    messages = [dict(each) for each in asked.messages or ()]
    if media := _media(fields, rules):
        text = {"type": "text", "text": messages[0]["content"]}
        messages[0]["content"] = [*media, text]
    system = fields.text("system")
    if not system and messages[0]["role"] not in SYSTEMS:
        system = defaults.system
    if system:
        messages = with_one_system([{"role": "system", "content": system}, *messages])
    return {
        **options,
        "messages": messages,
        "tool_choice": asked.tool_choice,
        "parallel_calls": asked.parallel_calls,
        **asked.options,
        **_ours(fields),
    }


def _messages(fields: Fields) -> list[Any]:
    """The conversation, or one of the prompt without its media."""
    messages, prompt = fields.list("messages"), fields.text("prompt")
    if (messages is None) == (prompt is None):
        raise fields.wrong("messages", "or prompt is needed, and not both")
    if messages is None:
        return [{"role": "user", "content": prompt}]
    if kind := next((kind for kind in KINDS if kind in fields), None):
        raise fields.wrong(kind, "goes with a prompt, or within messages")
    return messages


def _media(fields: Fields, rules: MediaRules) -> list[dict[str, Any]]:
    """What stands beside a prompt."""
    parts = list[dict[str, Any]]()
    for kind in KINDS:
        value = fields.values.get(kind, [])
        several = value if isinstance(value, list) else [value]
        for index, source in enumerate(several):
            name = f"{kind}[{index}]" if value is several else kind
            if not isinstance(source, str):
                raise fields.wrong(name, "must be a string: name a file")
            source = os.path.expanduser(source)
            parts.append(rules.from_url(kind, source, fields.where + name))
    return parts


def part_of(given: Any, where: str, rules: MediaRules) -> dict[str, Any]:
    """A part of a message. Beside OpenAI's there are those of the library, such as
    {"type": "image", "path": "a.jpg"}."""
    kind = given.get("type") if isinstance(given, Mapping) else None
    if kind not in KINDS:
        return read_part(given, where, rules)
    fields = Fields(given, where)
    fields.only({"type", "path", "url", kind} | OF_PART[kind])
    name = next((n for n in (kind, "path", "url") if n in fields), kind)
    source = fields.text(name)
    if source is None:
        raise fields.wrong(name, "is missing: name a file")
    source = os.path.expanduser(source)
    part = rules.from_url(kind, source, f"{where}{name}")
    part |= {n: v for n in ("track", "num_frames") if (v := fields.whole(n, 1))}
    fps = fields.number("fps", 0.001, 1000)
    return part if fps is None else {**part, "fps": fps}


def _form(fields: Fields) -> Options:
    form = {name: fields.values[name] for name in FORMS if name in fields}
    if fields.flag("json_object"):
        form.setdefault("schema", {"type": "object"})
    for name in ("regex", "grammar"):
        fields.text(name)
    return form


def _ours(fields: Fields) -> Options:
    """How the answer is made, where the words are those of `gemma4 chat`."""
    options: Options = {
        name: fields.flag(name)
        for name in ("control_tokens", "stop_loops", "strict_tools")
    }
    think, budget = fields.flag("think"), fields.whole("budget", 1)
    options["thinking"] = fields.flag("thinking") if think is None else think
    options["think_budget"] = fields.whole("think_budget", 0)
    options["image_tokens"] = fields.whole("image_tokens", 1) or budget
    return {name: value for name, value in options.items() if value is not None}
