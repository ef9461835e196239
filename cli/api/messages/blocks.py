"""Messages of Anthropic's API, which are lists of blocks, as those of every chat here.

A message with results of tools becomes one message per result, in the order of the
calls: templates tell two calls of one tool apart by nothing else.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlx_gemma4.chat.calls import ToolCall, openai_call
from mlx_gemma4.errors import ChatError

from ...serve.media import MediaRules
from ..parts import JOINT, joined, with_one_system
from ..sealed import seal, unsealed

Block = Mapping[str, Any]
Message = dict[str, Any]

# Begins a line that is for who bills, not for the model. It differs from conversation
# to conversation, and stands before all that they have in common.
BILLING = "x-anthropic-billing-header:"
SIGNED = "gemma4"  # begins the signatures of our own thoughts


def signature(hidden: str = "") -> str:
    """What stands under a thought; it carries one whose words are not shown."""
    return f"{SIGNED}:{seal(hidden)}" if hidden else SIGNED


def conversation(system: Any, messages: Any, rules: MediaRules) -> list[Message]:
    """What a request says, as `stream_generate` takes it. rules: which media it may
    name.

    Raises ChatError that names the block which cannot be said, Refused and MediaError.
    """
    if not isinstance(messages, list) or not messages:
        raise ChatError("messages must be a list of at least one message.")
    said: list[Message] = []
    told = _text(_blocks(system or [], "system"), "system")
    if told:
        said.append({"role": "system", "content": told})
    calls: list[str] = []  # ids that wait for their results
    for number, message in enumerate(messages):
        where = f"messages.{number}"
        if not isinstance(message, Mapping):
            raise ChatError(f"{where} must be an object with role and content.")
        blocks = _blocks(message.get("content"), f"{where}.content")
        role = message.get("role")
        if role == "user":
            _add_user(said, blocks, calls, where, rules)
            calls = []
            continue
        if calls:
            raise _unanswered(calls, where)
        if role == "assistant":
            said += _assistant(blocks, where)
            calls = [call["id"] for call in said[-1].get("tool_calls", ())]
        elif role == "system":
            said.append({"role": "system", "content": _text(blocks, where)})
        else:
            raise ChatError(f"{where} has role {role!r:.80}, not user or assistant.")
    if calls:
        raise _unanswered(calls, "The end")
    return with_one_system(said)


def _unanswered(calls: Sequence[str], where: str) -> ChatError:
    return ChatError(
        f"{where} comes before the results of tools: {', '.join(calls):.200}. A "
        "tool_use needs a tool_result in the next message, which is the user's."
    )


def _blocks(content: Any, where: str) -> Sequence[Block]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list) and all(isinstance(b, Mapping) for b in content):
        return content
    raise ChatError(f"{where} must be text or a list of blocks.")


def _numbered(blocks: Sequence[Block], where: str) -> Iterator[tuple[Block, str]]:
    for number, block in enumerate(blocks):
        yield block, f"{where}.{number}"


def _word(block: Block, key: str, where: str) -> str:
    if not isinstance(value := block.get(key), str):
        raise ChatError(f"{where}: a block of type {block['type']!r} needs {key}.")
    return value


def _refusal(block: Block, where: str) -> ChatError:
    kind = block.get("type")
    return ChatError(f"{where}: blocks of type {kind!r:.80} cannot be read.")


def _told(text: str) -> Message:
    return {"type": "text", "text": text}


def _text(blocks: Sequence[Block], where: str) -> str:
    """What blocks of text alone say."""
    texts = []
    for block, at in _numbered(blocks, where):
        if block.get("type") != "text":
            raise _refusal(block, at)
        text = _word(block, "text", at).strip()
        texts.append(text.partition("\n")[2] if text.startswith(BILLING) else text)
    return JOINT.join(filter(None, texts))


def _parts(blocks: Sequence[Block], where: str, rules: MediaRules) -> list[Message]:
    """What blocks of a user's message or of a tool's result say."""
    numbered = _numbered(blocks, where)
    return [part for block, at in numbered for part in _said(block, at, rules)]


def _said(block: Block, where: str, rules: MediaRules) -> list[Message]:
    cited = block.get("citations")
    if isinstance(cited, Mapping) and cited.get("enabled"):
        raise ChatError(
            f"{where}: an answer cannot have citations: do not enable them."
        )
    match block.get("type"):
        case "text":
            return [_told(_word(block, "text", where))]
        case "image":
            return [_picture(block, where, rules)]
        case "document":
            about = [block.get("title"), block.get("context")]
            told = [_told(text) for text in about if isinstance(text, str)]
            return told + _document(block, where, rules)
        case "search_result":
            told = [_told(_word(block, key, where)) for key in ("title", "source")]
            at = f"{where}.content"
            return [*told, _told(_text(_blocks(block.get("content"), at), at))]
    raise _refusal(block, where)


def _source(block: Block) -> Mapping[str, Any]:
    source = block.get("source")
    return source if isinstance(source, Mapping) else {}


def _picture(block: Block, where: str, rules: MediaRules) -> Message:
    """A picture, or a PDF, which is read as pictures of its pages."""
    source, at = _source(block), f"{where}.source"
    if source.get("type") == "base64":
        return rules.from_base64("image", source.get("data"), f"{at}.data")
    if source.get("type") == "url":
        return rules.from_url("image", source.get("url"), f"{at}.url")
    raise ChatError(
        f"{at} must be of type base64 with data, or of type url; "
        f"{source.get('type')!r:.80} cannot be read."
    )


def _document(block: Block, where: str, rules: MediaRules) -> list[Message]:
    source, at = _source(block), f"{where}.source"
    if source.get("type") == "text":
        return [_told(_word(source, "data", at))]
    if source.get("type") == "content":
        inner = _blocks(source.get("content"), at)
        if nested := [b for b in inner if b.get("type") not in ("text", "image")]:
            raise _refusal(nested[0], at)
        return _parts(inner, f"{at}.content", rules)
    return [_picture(block, where, rules)]


def _add_user(
    said: list[Message],
    blocks: Sequence[Block],
    calls: Sequence[str],
    where: str,
    rules: MediaRules,
) -> None:
    """A user's message behind `said`: results of `calls`, then what else is in it."""
    results: dict[str, Message] = {}
    parts: list[Message] = []
    for block, at in _numbered(blocks, f"{where}.content"):
        if block.get("type") != "tool_result":
            parts += _said(block, at, rules)
            continue
        answered = _word(block, "tool_use_id", at)
        if answered not in calls or answered in results:
            raise ChatError(
                f"{at} answers {answered!r:.80}, which waits for no result."
            )
        results[answered] = _result(block, answered, at, rules)
    if open_calls := [call for call in calls if call not in results]:
        raise _unanswered(open_calls, f"The rest of {where}")
    said += [results[call] for call in calls]
    if results and not parts:
        return
    if said and said[-1]["role"] == "user":  # two in a row are one
        before = said.pop()["content"]
        parts = [*([_told(before)] if isinstance(before, str) else before), *parts]
    said.append({"role": "user", "content": joined(parts)})


def _result(block: Block, call: str, where: str, rules: MediaRules) -> Message:
    at = f"{where}.content"
    parts = _parts(_blocks(block.get("content") or "", at), at, rules)
    if block.get("is_error"):
        parts = [_told("Error:"), *parts]
    return {"role": "tool", "tool_call_id": call, "content": joined(parts)}


def _assistant(blocks: Sequence[Block], where: str) -> list[Message]:
    """An answer: a thought behind a text begins another message."""
    said: list[Message] = [{"role": "assistant", "content": ""}]
    calls: list[Message] = []
    for block, at in _numbered(blocks, f"{where}.content"):
        match block.get("type"):
            case "text":
                said[-1]["content"] += _word(block, "text", at)
            case "thinking":
                if said[-1]["content"]:
                    said.append({"role": "assistant", "content": ""})
                thought = said[-1].get("reasoning", "") + _thought(block, at)
                said[-1]["reasoning"] = thought
            case "redacted_thinking":
                pass  # of another model: none but it can read that
            case "tool_use":
                calls.append(_call(block, at))
            case _:
                raise _refusal(block, at)
    if calls:
        said[-1]["tool_calls"] = calls
    return said


def _thought(block: Block, where: str) -> str:
    signed = block.get("signature")
    if not isinstance(signed, str) or not signed.startswith(f"{SIGNED}:"):
        return _word(block, "thinking", where)
    thought = unsealed(signed.removeprefix(f"{SIGNED}:"))
    if thought is None:
        raise ChatError(f"{where}: the signature is damaged.")
    return thought


def _call(block: Block, where: str) -> Message:
    arguments = block.get("input")
    if not isinstance(arguments, Mapping):
        raise ChatError(f"{where}: the input of a tool_use must be an object.")
    call = ToolCall(_word(block, "name", where), dict(arguments))
    return openai_call(call, _word(block, "id", where))
