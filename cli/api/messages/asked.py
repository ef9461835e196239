"""What a request of Anthropic's API asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...serve.engine import Asked
from ...serve.errors import Refused
from ...serve.media import MediaRules
from ..fields import Fields
from ..options import sampling, thinking
from .blocks import Message, conversation

# What changes no answer here: who pays, what is cached (all is), where it runs, what
# is taken out of a conversation that grows too long for others.
HARMLESS = frozenset(
    {
        *("metadata", "service_tier", "speed", "inference_geo", "cache_control"),
        *("context_management", "diagnostics", "betas", "user_profile_id"),
    }
)
KNOWN = frozenset(
    {
        *("model", "messages", "system", "max_tokens", "stop_sequences", "stream"),
        *("temperature", "top_p", "top_k", "thinking", "tools", "tool_choice"),
        *("output_config", "output_format"),
    }
)
OF_TOOLS = frozenset({"type", "name", "description", "input_schema", "strict"})
HARMLESS_OF_TOOLS = frozenset(
    {"cache_control", "eager_input_streaming", "defer_loading", "input_examples"}
)
UNTHREADED = "thread_unsupported_request"  # after which SDKs send all again without it
EFFORTS = ("low", "medium", "high", "xhigh", "max")
CHOICES = {"auto": "auto", "any": "required", "tool": "", "none": "none"}


@dataclass(frozen=True)
class Request:
    """model: as the client calls it. begun: what the answer begins with, said by the
    client. shows_thoughts: whether thoughts are told in words."""

    asked: Asked
    model: str
    streams: bool
    begun: str
    shows_thoughts: bool


def request_of(body: Any, rules: MediaRules, counts: bool = False) -> Request:
    """A body of /messages, checked. counts: of /messages/count_tokens, which needs no
    max_tokens.

    Raises Refused, ChatError and MediaError for what cannot be honoured, by its name.
    """
    fields = Fields(body)
    if "thread" in fields:
        why = "is not held here: send the whole conversation"
        raise fields.wrong("thread", why, UNTHREADED)
    fields.only(KNOWN, HARMLESS)
    if (model := fields.text("model")) is None:
        raise fields.wrong("model", "is missing: any name will do")
    if "max_tokens" not in fields and not counts:
        raise fields.wrong("max_tokens", "is missing")
    drawn = ("temperature", "top_p", "top_k", "max_tokens")
    chosen = {name: fields.values[name] for name in drawn if name in fields}
    stops = chosen["stop"] = fields.list("stop_sequences")
    if not all(isinstance(stop, str) and stop for stop in stops or ()):
        raise fields.wrong("stop_sequences", "must be strings that are not empty")
    options = sampling(Fields(chosen)) | _thinking(fields)
    values = fields.values
    messages = conversation(values.get("system"), values.get("messages"), rules)
    begun = ""
    if messages[-1]["role"] == "assistant":
        last = messages.pop()
        begun = _begun(messages, last, options.get("thinking", False))
        options |= {"begun": last, "thinking": False}
    given = [Fields(t, f"tools.{n}.") for n, t in enumerate(fields.list("tools") or ())]
    tools = [_tool(tool) for tool in given]
    strict = [tool.flag("strict") for tool in given]
    if any(strict):
        options["strict_tools"] = True
    choice, parallel = _choice(fields, tools)
    asked = Asked(
        messages=messages,
        tools=tools or None,
        tool_choice=choice,
        parallel_calls=parallel,
        options=options,
        form=_form(fields),
    )
    thinks = fields.object("thinking")
    shown = thinks is None or thinks.text("display") != "omitted"
    return Request(asked, model, bool(fields.flag("stream")), begun, shown)


def _begun(messages: Sequence[Message], last: Message, thinks: bool) -> str:
    """The text that an answer begins with."""
    begun = last["content"]
    if thinks or last.get("reasoning"):
        raise Refused(400, "An answer that has begun cannot think: disable thinking.")
    if not begun or begun != begun.rstrip():
        raise Refused(
            400, "The last message, an assistant's, must not end with a blank."
        )
    if not messages or messages[-1]["role"] == "assistant":
        raise Refused(400, "The last message must follow one of the user's.")
    return begun


def _thinking(fields: Fields) -> dict[str, Any]:
    """By the effort, where the model is to decide."""
    config = fields.object("output_config")
    effort = config.one_of("effort", EFFORTS) if config else None
    asked = fields.object("thinking")
    if asked is None:
        return {}
    asked.only({"type", "budget_tokens", "display"})
    kind = asked.one_of("type", ("enabled", "adaptive", "disabled"))
    if kind == "adaptive":
        return thinking(effort or "high")
    if kind != "enabled":
        return {"thinking": False}
    budget = asked.whole("budget_tokens", 1)
    if budget is None:
        raise asked.wrong("budget_tokens", "is missing")
    return {"thinking": True, "think_budget": budget}


def _tool(tool: Fields) -> dict[str, Any]:
    """A declaration in OpenAI's shape."""
    name = tool.text("name")
    if tool.text("type") not in (None, "custom"):
        why = "names a tool of Anthropic's own: declare yours with an input_schema"
        raise tool.wrong("type", why, "unsupported_value")
    tool.only(OF_TOOLS, HARMLESS_OF_TOOLS)
    if not name:
        raise tool.wrong("name", "is missing")
    if (schema := tool.object("input_schema")) is None:
        raise tool.wrong("input_schema", "is missing")
    function = {"name": name, "parameters": dict(schema.values)}
    if (described := tool.text("description")) is not None:
        function["description"] = described
    return {"type": "function", "function": function}


def _choice(fields: Fields, tools: Sequence[dict[str, Any]]) -> tuple[str, bool]:
    """Which tool, and whether there may be several calls."""
    asked = fields.object("tool_choice")
    if asked is None:
        return "auto", True
    asked.only({"type", "name", "disable_parallel_tool_use"})
    kind = asked.one_of("type", CHOICES)
    if kind is None:
        raise asked.wrong("type", "is missing")
    choice = CHOICES[kind] or asked.text("name") or ""
    names = [tool["function"]["name"] for tool in tools]
    if kind == "tool" and choice not in names:
        raise asked.wrong("name", "is none of the tools")
    if kind == "any" and not names:
        raise asked.wrong("type", "asks for a call, but there are no tools")
    return choice, not asked.flag("disable_parallel_tool_use")


def _form(fields: Fields) -> dict[str, Any]:
    """The form of the answer, as `stream_generate` takes it."""
    config = fields.object("output_config")
    if config is not None:
        config.only({"effort", "format"})
    form = (config and config.object("format")) or fields.object("output_format")
    if form is None:
        return {}
    form.only({"type", "schema"}, {"name"})
    form.must("type", "json_schema")
    if (schema := form.object("schema")) is None:
        raise form.wrong("schema", "is missing")
    return {"schema": dict(schema.values)}
