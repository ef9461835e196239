"""Messages to a prompt: the checkpoint's own chat template over checked messages.

Messages have the shape of OpenAI's API and of transformers. Thoughts of earlier turns
stand in `reasoning_content` (or `reasoning`, `thinking`); the template decides which
of them the model sees again.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..errors import ChatError, CheckpointError
from ..reading.bounded import read_bytes
from ..reading.json_file import read_json
from .tools import plain_json, plain_tools

MAX_FILE = 10_000_000  # bytes of a template; what Jinja is given is bounded, too
ROLES = ("system", "developer", "user", "assistant", "tool")
MEDIA_PARTS = ("image", "image_url", "audio", "input_audio", "video")
REASONING = ("reasoning_content", "thinking", "reasoning")  # the first one wins

# Templates in wide circulation from before Google's corrections of July 2026.
STALE_TEMPLATES = frozenset(
    {
        "2f1b4d75d067bae3fe44e676721c7f077d243bc007156cb9c2f8b5836613d082",
        "36e3a42e5cf14cd0020e72d92e1fdd9970f59b82170e421f0cbe1bb42bead3f0",
        "94899c0f917d93f6fe81c95744d1e8ddab2d21d39228d2e4aec1fb2a25bff413",
    }
)
STALE = (
    "The checkpoint's chat template predates Google's corrections of July 2026 and may "
    "loop on tool calls or misplace thoughts; replace chat_template.jinja by the one "
    "in the model's google/gemma-4-… repository."
)


class ChatTemplate:
    """A checkpoint's Jinja template.

    `stale` is a sentence for the user where the template is a known outdated one,
    else None. Raises CheckpointError if the template is not valid Jinja.
    """

    def __init__(self, source: str, bos_token: str, eos_token: str = ""):
        from jinja2 import TemplateSyntaxError, nodes

        from .sandbox import Sandbox

        digest = sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
        self.stale = STALE if digest in STALE_TEMPLATES else None
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        environment = Sandbox()
        try:
            tree = environment.parse(source)
            self._names = {name.name for name in tree.find_all(nodes.Name)}
            self._template = environment.from_string(tree)
        except (TemplateSyntaxError, RecursionError) as error:
            raise CheckpointError(
                f"The chat template is not valid Jinja ({_describe(error)}). Download "
                "chat_template.jinja again."
            ) from None

    @classmethod
    def from_folder(
        cls, folder: Path, bos_token: str, eos_token: str = ""
    ) -> "ChatTemplate | None":
        """The template of a checkpoint folder, or None where there is none."""
        source = _read_template(folder)
        return None if source is None else cls(source, bos_token, eos_token)

    @property
    def knows_thinking(self) -> bool:
        """Whether the template can switch thinking on."""
        return "enable_thinking" in self._names

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool = False,
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt text, special tokens spelled out.

        Media parts become the template's placeholders. Raises ChatError for messages
        or tools that are not well formed, or that the template refuses or ignores.
        """
        from jinja2 import TemplateError

        from .sandbox import bounded_range

        if thinking and not self.knows_thinking:
            raise ChatError(
                "This checkpoint's chat template has no thinking; ask without it."
            )
        if tools and "tools" not in self._names:
            raise ChatError("This checkpoint's chat template takes no tools.")
        values = {
            "messages": plain_messages(messages),
            "tools": plain_tools(tools) if tools else None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            "enable_thinking": thinking,
            "range": bounded_range(),
            **self._tokens,
        }
        refusals = (TemplateError, ArithmeticError, LookupError, RecursionError)
        try:
            return self._template.render(values)
        except (*refusals, TypeError, ValueError, AttributeError) as error:
            raise ChatError(
                f"The chat template refused the conversation: {_describe(error)}."
            ) from None


def plain_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Checked copies of `messages`, made of JSON types; the originals stay as they are.

    Arguments given as JSON text become mappings, media parts lose their content.
    Raises ChatError that names the message.
    """
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise ChatError("messages must be a list of {'role': …, 'content': …}.")
    if not messages:
        raise ChatError("The conversation is empty: give at least one message.")
    plain: list[dict[str, Any]] = []
    open_calls: list[dict[str, Any]] = []
    for i, message in enumerate(messages):
        where = f"messages[{i}]"
        plain.append(_plain_message(message, where))
        if plain[-1]["role"] != "tool":
            open_calls = plain[-1].get("tool_calls") or []
            if plain[-1].get("tool_responses"):
                open_calls = []  # they are answered; templates ignore any other answer
        elif not _answers(plain[-1], open_calls):
            raise ChatError(
                f"{where} has role 'tool' but answers no call: it must follow an "
                "assistant message with tool_calls and give one's id as tool_call_id."
            )
    return plain


def _plain_message(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise ChatError(f"{where} is a {type(message).__name__}, not a mapping.")
    role = message.get("role")
    if role not in ROLES:
        raise ChatError(f"{where} has role {role!r}; known are {', '.join(ROLES)}.")
    rest = {key: value for key, value in message.items() if key != "content"}
    plain: dict[str, Any] = plain_json(rest, where)
    if plain.get("tool_calls"):
        if role != "assistant":
            raise ChatError(f"{where}: only an assistant message has tool_calls.")
        plain["tool_calls"] = _plain_calls(plain["tool_calls"], where)
    for key in REASONING:
        if plain.get(key) is not None and not isinstance(plain[key], str):
            raise ChatError(f"{where}: {key} must be text.")
    thoughts = (plain[key] for key in REASONING if plain.get(key) is not None)
    if (thought := next(thoughts, None)) is not None:
        plain["reasoning_content"] = thought
    content = message.get("content")
    if content is not None:
        plain["content"] = _plain_content(content, role, where)
    elif role != "assistant" or not any(
        plain.get(key) for key in ("tool_calls", "tool_responses", "reasoning_content")
    ):
        raise ChatError(f"{where} has no content.")
    else:
        plain["content"] = None
    return plain


def _plain_content(content: Any, role: str, where: str) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return str(content)
    if isinstance(content, Mapping) or not isinstance(content, Sequence):
        kind = type(content).__name__
        raise ChatError(f"{where}: content is a {kind}; give text or a list of parts.")
    parts = []
    for i, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part["text"] if "text" in part else None, str):
            parts.append({"type": "text", "text": str(part["text"])})
        elif kind in MEDIA_PARTS and role not in ("system", "developer"):
            parts.append({"type": kind})
        elif kind in MEDIA_PARTS:
            raise ChatError(f"{where}: a {role} message holds text only, no {kind}.")
        else:
            raise ChatError(
                f"{where}: content[{i}] must be {{'type': 'text', 'text': …}} or an "
                "image, audio or video part."
            )
    return parts


def _plain_calls(calls: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise ChatError(f"{where}: tool_calls must be a list.")
    for i, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ChatError(
                f"{where}: tool_calls[{i}] must be {{'type': 'function', 'id': …, "
                "'function': {'name': …, 'arguments': {…}}}."
            )
        arguments = _plain_arguments(function.get("arguments"))
        if arguments is None:
            raise ChatError(
                f"{where}: the arguments of tool_calls[{i}] are no JSON object."
            )
        function["arguments"] = arguments
    return calls


def _plain_arguments(arguments: Any) -> dict[str, Any] | None:
    """The mapping of arguments, None where they are something else."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return None
    elif arguments is None:
        return {}
    return arguments if isinstance(arguments, dict) else None


def _answers(message: Mapping[str, Any], calls: Sequence[Mapping[str, Any]]) -> bool:
    ids = [call.get("id") for call in calls]
    named = isinstance(message.get("name"), str) and message["name"]
    return bool(ids) and (message.get("tool_call_id") in ids or bool(named))


def _read_template(folder: Path) -> str | None:
    file = folder / "chat_template.jinja"
    try:
        if file.exists():
            return read_bytes(file, MAX_FILE).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.") from None
    for name in ("chat_template.json", "tokenizer_config.json"):
        found = read_json(folder / name).get("chat_template")
        if isinstance(found, list):
            entries = [entry for entry in found if isinstance(entry, dict)]
            named = {entry.get("name"): entry.get("template") for entry in entries}
            found = named.get("default", "")
        if found and isinstance(found, str):
            return found
        if found is not None:
            raise CheckpointError(
                f"{folder / name} holds no 'default' chat template; add "
                "chat_template.jinja from the original model."
            )
    return None


def _describe(error: Exception) -> str:
    line = getattr(error, "lineno", None)
    text = str(error).rstrip(".") or type(error).__name__
    return f"line {line}: {text}" if line else text
