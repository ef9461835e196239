"""A request of the Responses API, read whole before anything is computed."""

from dataclasses import dataclass
from typing import Any

from ...serve.engine import Asked
from ...serve.media import MediaRules
from ..fields import Fields
from ..options import EFFORTS, FORM_NOTES, HARMLESS, SAMPLING, sampling, thinking
from .declared import Declared, declared
from .kept import Kept
from .reading import messages_of

KNOWN = SAMPLING - {"max_tokens", "max_completion_tokens"} | {
    *("input", "instructions", "previous_response_id", "stream", "include", "text"),
    *("tools", "tool_choice", "parallel_tool_calls", "max_output_tokens", "reasoning"),
    *("background", "top_logprobs", "truncation"),
}
# Bookkeeping of clients, and a bound for tools that only OpenAI's servers run.
PASSED_OVER = HARMLESS | {"client_metadata", "max_tool_calls"}
SUMMARIES = ("auto", "concise", "detailed", "none")
SEALED = "reasoning.encrypted_content"
LOGPROBS = "message.output_text.logprobs"


@dataclass(frozen=True)
class Request:
    """items: of the whole conversation. summarized, sealed: as `Written` takes them."""

    asked: Asked
    declared: Declared
    items: list[Any]
    streams: bool
    keeps: bool
    summarized: bool
    sealed: bool


def read_request(body: dict[str, Any], media: MediaRules, kept: Kept) -> Request:
    """Raises Refused that names the field, and MediaError."""
    fields = Fields(body)
    fields.only(KNOWN, PASSED_OVER)
    fields.must("background", False)
    fields.must("top_logprobs", 0)
    # A conversation that is too long is refused: nothing of it is left out unseen.
    fields.one_of("truncation", ("auto", "disabled"))
    include = fields.list("include") or []
    if LOGPROBS in include:
        raise fields.wrong("include", f"cannot ask for {LOGPROBS} here")
    tools = declared(fields)
    items = _items(fields, kept)
    messages = messages_of(fields.text("instructions"), items, media)
    options, summary = _thinking(fields)
    options |= sampling(fields)
    if tools.strict:
        options["strict_tools"] = True
    if (most := fields.whole("max_output_tokens", 1)) is not None:
        options["max_tokens"] = most
    parallel = fields.flag("parallel_tool_calls")
    return Request(
        Asked(
            messages,
            tools=tools.tools or None,
            tool_choice=tools.choice,
            parallel_calls=parallel is not False,
            options=options,
            form=_form(fields),
        ),
        tools,
        items,
        streams=bool(fields.flag("stream")),
        keeps=fields.flag("store") is not False,
        summarized=summary not in (None, "none"),
        sealed=SEALED in include,
    )


def _items(fields: Fields, kept: Kept) -> list[Any]:
    """All of the conversation's, as clients send them."""
    items = fields.values.get("input")
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    if not isinstance(items, list):
        raise fields.wrong("input", "must be a text or a list of items")
    if (previous := fields.text("previous_response_id")) is not None:
        items = [*kept.items(previous), *items]
    return items


def _thinking(fields: Fields) -> tuple[dict[str, Any], str | None]:
    """Options of `stream_generate`, and what kind of summary is wanted."""
    reasoning = fields.object("reasoning")
    if reasoning is None:
        return {}, None
    reasoning.only({"effort", "summary", "generate_summary"}, {"context"})
    effort = reasoning.one_of("effort", EFFORTS)
    older = reasoning.one_of("generate_summary", SUMMARIES)
    summary = reasoning.one_of("summary", SUMMARIES) or older
    return (thinking(effort) if effort else {}), summary


def _form(fields: Fields) -> dict[str, Any]:
    text = fields.object("text")
    form = text and text.object("format")
    if text is not None:
        text.only({"format", "verbosity"})
        text.must("verbosity", "medium")
    if form is None:
        return {}
    kind = form.one_of("type", ("text", "json_object", "json_schema"))
    if kind != "json_schema":
        return {"schema": {"type": "object"}} if kind == "json_object" else {}
    form.only({"type", "schema"}, FORM_NOTES)
    if not isinstance(schema := form.values.get("schema"), dict):
        raise form.wrong("schema", "must be an object")
    return {"schema": schema}
