"""`/v1/chat/completions`, as OpenAI has it."""

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlx_gemma4.chat.calls import ToolCall
from mlx_gemma4.forms.calls import CHOICES
from mlx_gemma4.generation.answer import UNFINISHED

from ..serve.engine import Asked
from ..serve.exchange import Exchange
from ..serve.media import MediaRules
from ..serve.routes import Route, Service
from .fields import Fields
from .options import EFFORTS, FORM_NOTES, HARMLESS, SAMPLING, sampling, thinking
from .parts import PartReader, read_messages, read_part

if TYPE_CHECKING:
    from mlx_gemma4 import Chunk, Response, Stats

KNOWN = SAMPLING | {
    *("messages", "stream", "stream_options", "tools", "tool_choice"),
    *("parallel_tool_calls", "response_format", "n", "logprobs", "top_logprobs"),
    *("reasoning_effort", "reasoning", "chat_template_kwargs", "modalities"),
}


def asked_of(fields: Fields, rules: MediaRules, part: PartReader = read_part) -> Asked:
    """Raises Refused and MediaError. part: what reads a part of a message."""
    fields.only(KNOWN, HARMLESS)
    for name, value in (("n", 1), ("logprobs", False), ("top_logprobs", 0)):
        fields.must(name, value)
    fields.must("modalities", ["text"])
    messages = fields.list("messages")
    if not messages:
        raise fields.wrong("messages", "must be a list of messages, one at least")
    tools = fields.list("tools") or None
    parallel = fields.flag("parallel_tool_calls")
    return Asked(
        messages=read_messages(messages, rules, part),
        tools=tools,
        tool_choice=_choice(fields),
        parallel_calls=parallel is not False,
        options=sampling(fields) | _thinking(fields) | _strict(tools),
        form=_form(fields),
    )


def _choice(fields: Fields) -> str:
    choice = fields.values.get("tool_choice", "auto")
    if choice in CHOICES:
        return choice
    inner = fields.object("tool_choice")
    function = inner.object("function") if inner else None
    name = function.text("name") if function else None
    if inner is None or function is None or name is None:
        raise fields.wrong("tool_choice", "must be auto, none, required or a function")
    inner.only({"type", "function"})
    function.only({"name"})
    return name


def _strict(tools: list[Any] | None) -> dict[str, Any]:
    """Whether one of the tools asks that calls are held to its declaration."""
    inner = [t.get("function") for t in tools or () if isinstance(t, Mapping)]
    strict = any(isinstance(f, Mapping) and f.get("strict") is True for f in inner)
    return {"strict_tools": True} if strict else {}


def _thinking(fields: Fields) -> dict[str, Any]:
    """Whether to think, in any of the ways that clients say it."""
    effort = fields.one_of("reasoning_effort", EFFORTS)
    if (inner := fields.object("reasoning")) is not None:
        inner.only({"effort"}, ("summary", "exclude"))
        effort = inner.one_of("effort", EFFORTS) or effort
    if effort is not None:
        return thinking(effort)
    if (template := fields.object("chat_template_kwargs")) is not None:
        template.only({"enable_thinking"})
        if (switch := template.flag("enable_thinking")) is not None:
            return {"thinking": switch}
    return {}


def _form(fields: Fields) -> dict[str, Any]:
    inner = fields.object("response_format")
    if inner is None:
        return {}
    kind = inner.one_of("type", ("text", "json_object", "json_schema"))
    inner.only({"type", "json_schema"})
    if kind != "json_schema":
        return {"schema": {"type": "object"}} if kind == "json_object" else {}
    stated = inner.object("json_schema")
    schema = stated.values.get("schema") if stated else None
    if stated is None or not isinstance(schema, Mapping):
        raise inner.wrong("json_schema", "must have a schema")
    stated.only({"schema"}, FORM_NOTES)
    return {"schema": schema}


@dataclass
class Reply:
    """What of an answer is the same in all its parts."""

    id: str
    created: int
    model: str
    called: int = 0

    def part(self, kind: str, choices: list[Any]) -> dict[str, Any]:
        head = {"id": self.id, "object": kind, "created": self.created}
        return {**head, "model": self.model, "choices": choices}

    def calls(self, calls: tuple[ToolCall, ...]) -> list[dict[str, Any]]:
        """Calls as they stand in a stream, with their numbers."""
        written = []
        for call in calls:
            written.append({"index": self.called, **written_call(call)})
            self.called += 1
        return written


def written_call(call: ToolCall) -> dict[str, Any]:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    function = {"name": call.name, "arguments": arguments}
    return {
        "id": f"call_{secrets.token_hex(12)}",
        "type": "function",
        "function": function,
    }


def finish_reason(reason: str | None, called: bool) -> str:
    """In OpenAI's words."""
    if reason in UNFINISHED:
        return "length"
    return "tool_calls" if called else "stop"


def usage(stats: "Stats") -> dict[str, Any]:
    read, written = stats.prompt_tokens, stats.completion_tokens
    details = {"reasoning_tokens": stats.thought_tokens}
    if stats.drafted:
        details["accepted_prediction_tokens"] = stats.accepted
        details["rejected_prediction_tokens"] = stats.drafted - stats.accepted
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": stats.cached_tokens},
        "completion_tokens_details": details,
    }


def noted(stats: "Stats") -> str:
    cached = f" ({stats.cached_tokens} cached)" if stats.cached_tokens else ""
    drafts = f", {stats.accepted} of {stats.drafted} drafts" if stats.drafted else ""
    return f"{stats.prompt_tokens}{cached} + {stats.completion_tokens} tokens{drafts}"


def streaming(fields: Fields) -> tuple[bool, bool]:
    """Whether the answer is told as it comes, and then its usage at the end."""
    told = fields.object("stream_options")
    if told is not None:
        told.only({"include_usage"}, ("include_obfuscation", "continuous_usage_stats"))
    return bool(fields.flag("stream")), bool(told and told.flag("include_usage"))


def complete(exchange: Exchange, service: Service) -> None:
    fields = Fields(exchange.json())
    asked = asked_of(fields, service.media)
    streams, with_usage = streaming(fields)
    job = service.worker.submit(lambda engine: engine.answer(asked))
    chunks = exchange.items(job, streams)
    reply = new_reply(service.name)
    if streams:
        _stream(exchange, chunks, reply, with_usage)
    else:
        _whole(exchange, chunks, reply)


def completion(reply: Reply, answer: "Response") -> dict[str, Any]:
    """A whole answer, as it stands in a reply."""
    assert answer.stats is not None
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    if answer.thought:
        message["reasoning_content"] = answer.thought
    if answer.tool_calls:
        message["tool_calls"] = [written_call(call) for call in answer.tool_calls]
    else:
        message["content"] = answer.text
    reason = finish_reason(answer.finish_reason, bool(answer.tool_calls))
    choice = {"index": 0, "message": message, "logprobs": None}
    whole = reply.part("chat.completion", [{**choice, "finish_reason": reason}])
    return {**whole, "usage": usage(answer.stats)}


def new_reply(model: str) -> Reply:
    """What is said of an answer that `model` begins now."""
    return Reply(f"chatcmpl-{secrets.token_hex(12)}", int(time.time()), model)


def _whole(exchange: Exchange, chunks: "Iterator[Chunk]", reply: Reply) -> None:
    from mlx_gemma4 import Response

    answer = Response.of(chunks)
    assert answer.stats is not None
    exchange.noted = noted(answer.stats)
    exchange.reply_json(200, completion(reply, answer))


def _stream(
    exchange: Exchange, chunks: "Iterator[Chunk]", reply: Reply, with_usage: bool
) -> None:
    def send(delta: Mapping[str, Any], reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        exchange.event(reply.part("chat.completion.chunk", [choice]))

    begun = False
    for chunk in chunks:
        if not begun:
            send({"role": "assistant", "content": ""})
            begun = True
        if chunk.thought:
            send({"reasoning_content": chunk.thought})
        if chunk.text:
            send({"content": chunk.text})
        if chunk.tool_calls:
            send({"tool_calls": reply.calls(chunk.tool_calls)})
        if chunk.finish_reason is not None:
            send({}, finish_reason(chunk.finish_reason, reply.called > 0))
        if chunk.stats is not None:
            exchange.noted = noted(chunk.stats)
            if with_usage:
                last = reply.part("chat.completion.chunk", [])
                exchange.event({**last, "usage": usage(chunk.stats)})
    exchange.event("[DONE]")


ROUTES = (Route("POST", "/chat/completions", complete),)
