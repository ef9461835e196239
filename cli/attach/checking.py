"""Messages from a file: whether they are such as this program writes."""

from typing import Any

from mlx_gemma4.prompt.attachments import IMAGE_TOKENS, MARKS

ROLES = ("user", "assistant", "tool")


def is_message(value: Any) -> bool:
    """Whether a message has what this program reads of it, calls with ids included."""
    if not isinstance(value, dict) or not is_content(value):
        return False
    calls = value.get("tool_calls", [])
    return (
        value.get("role") in ROLES
        and isinstance(calls, list)
        and all(isinstance(c, dict) and isinstance(c.get("id"), str) for c in calls)
    )


def is_content(message: dict[str, Any]) -> bool:
    """Whether a message holds text, or a user's media and text."""
    content = message.get("content")
    if isinstance(content, list) and message.get("role") == "user":
        return bool(content) and all(map(is_part, content))
    return isinstance(content, str)


def is_part(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    if value.get("type") == "text":
        return is_text(value)
    budget, track = value.get("image_tokens"), value.get("track")
    return (
        value.get("type") in tuple(MARKS)  # a list has no hash
        and isinstance(value.get("path"), str)
        and (budget is None or type(budget) is int and budget in IMAGE_TOKENS)
        and (track is None or type(track) is int and track > 0)
    )


def is_text(part: dict[str, Any]) -> bool:
    """Whether a part has text, and what is said of files in it is whole."""
    files = part.get("files", [])
    if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
        return False
    texts = [part.get("text"), part.get("typed", "")]
    texts += [file.get(key) for file in files for key in ("path", "label", "text")]
    return all(isinstance(text, str) for text in texts) and all(
        file.get("type") == "file" for file in files
    )
