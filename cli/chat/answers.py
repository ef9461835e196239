"""What /regen, /continue, /history and /copy do with the answers that were given."""

import re
import sys
from collections.abc import Iterator

from mlx_gemma4.errors import ChatError
from mlx_gemma4.generation.answer import Chunk

from ..attach.messages import Message, calls_of, worded
from ..errors import UsageError
from ..terminal.clipboard import put_on_clipboard
from .recent import SIGNS
from .session import Answer, Session

FENCE = re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE)


def regen_command(session: Session, words: str) -> Answer:
    if not session.chat.messages:
        raise UsageError("There is no answer to regenerate yet.")
    return session.chat.again()


def continue_command(session: Session, words: str) -> Answer:
    """Goes on with the last answer. On a terminal what goes on, a paragraph or a block
    of code, is shown again from its start, so that it is whole there."""
    try:
        chunks = session.chat.go_on()
    except ChatError as error:
        raise UsageError(str(error)) from None
    last = session.chat.messages[-1]
    shows = sys.stdout.isatty() and not session.screen.as_json
    if not shows or last["role"] != "assistant":
        return chunks
    text = last["content"]
    return behind(text[open_block(text) :], session, chunks)


def open_block(text: str) -> int:
    """Where the last block of a text in Markdown begins, to which more may come."""
    fences = [match.start() for match in FENCE.finditer(text)]
    if len(fences) % 2:
        return fences[-1]
    return text.rindex("\n\n") + 2 if "\n\n" in text else 0


def behind(text: str, session: Session, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Shows `text`, and gives the chunks that go on with it."""
    session.screen.answer(text)
    yield from chunks


def history_command(session: Session, words: str) -> Answer:
    """Shows the conversation: answers on a terminal as when they were given."""
    screen, messages = session.screen, session.chat.messages
    if not messages:
        screen.note("Nothing was said yet.")
    for n, message in enumerate(messages):
        if n:
            screen.gap()
        if message["role"] != "assistant":
            screen.note(quoted(message))
        elif sys.stdout.isatty() and not screen.as_json:
            screen.answer(message["content"])
            screen.end()
        elif message["content"]:
            screen.note(message["content"])
        for call in calls_of(message):
            screen.note(call)
    return None


def quoted(message: Message) -> str:
    """What the user or a tool said, with the files of it."""
    sign = SIGNS[message["role"]]
    return "\n".join(sign + line for line in worded(message).splitlines())


def copy_command(session: Session, words: str) -> Answer:
    """Copies the last answer, or the code in it."""
    said = (m for m in reversed(session.chat.messages) if m["role"] == "assistant")
    text = next(said, {"content": ""})["content"]
    if not text:
        raise UsageError("There is no answer to copy yet.")
    what = "the answer"
    if words:
        text, what = code_in(text, words)
    taker = put_on_clipboard(text)
    session.screen.note(f"Copied {what}: {amount(text)}, to {taker}.")
    return None


def code_in(text: str, words: str) -> tuple[str, str]:
    """The code that `/copy code` or `/copy code 2` asks for, and what it is called."""
    match = re.fullmatch(r"code(?: +([1-9][0-9]{0,3}))?", words)
    if match is None:
        raise UsageError(f"/copy takes code, or code and a number, not '{words}'.")
    from markdown_it import MarkdownIt

    tokens = MarkdownIt().parse(text)
    blocks = [each.content for each in tokens if each.type in ("fence", "code_block")]
    if not blocks:
        raise UsageError("The last answer holds no block of code.")
    if match[1] is None:
        count = len(blocks)
        called = "the code" if count == 1 else f"{count} blocks of code"
        return "\n".join(blocks), called
    if int(match[1]) > len(blocks):
        raise UsageError(f"The last answer holds {len(blocks)} blocks of code.")
    return blocks[int(match[1]) - 1], f"block {match[1]} of the code"


def amount(text: str) -> str:
    lines = len(text.splitlines())
    return f"{len(text):,} characters" if lines == 1 else f"{lines} lines"
