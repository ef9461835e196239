"""Whether a chat template passes on what a conversation holds."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..config import Config
from ..errors import ChatError, CheckpointError
from ..media import Kind
from ..prompt.attachments import MARKS
from ..prompt.processor import Processor
from ..prompt.vocabulary import perceived
from .findings import Findings

ABOUT = "template"
SYSTEM = {"role": "system", "content": "Answer in Latin."}
QUESTION = "What is the weather in Rome?"
ASK: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]
TOOL = {
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def check_template(processor: Processor, config: Config, findings: Findings) -> None:
    """Renders a question, and it with a system turn, a tool, thinking and media."""
    if processor.template is None:
        findings.warn(
            ABOUT,
            "There is no chat template: a base model, which cannot chat. An -it model "
            "needs the chat_template.jinja of the original.",
        )
        return
    if processor.template.stale:
        findings.warn(ABOUT, processor.template.stale)
    if not _renders_question(processor, findings):
        return
    passed = [
        *(["system turn"] if _keeps(processor, findings, "system turn") else []),
        *(["tool"] if _keeps(processor, findings, "tool") else []),
        *(["thinking"] if _thinks(processor, findings) else []),
        *(k for k in perceived(config) if _marks(processor, findings, k)),
    ]
    findings.ok(ABOUT, f"It renders {', '.join(['a question', *passed])}.")


def _renders_question(processor: Processor, findings: Findings) -> bool:
    rendered = findings.attempt(ABOUT, lambda: processor.render(ASK))
    if rendered is None:
        return False
    if QUESTION not in rendered.text:
        findings.problem(
            ABOUT,
            "The chat template renders nothing of a question: use the "
            "chat_template.jinja of the original model.",
        )
        return False
    ids = processor.tokenizer.encode_rendered(rendered)
    begun = processor.tokenizer.bos_token_id
    if ids.count(begun) != 1 or ids[0] != begun:
        findings.warn(
            ABOUT,
            f"A prompt has {ids.count(begun)} {processor.tokenizer.bos_token}, not one "
            "at its beginning: answers may be worse.",
        )
    return True


def _keeps(processor: Processor, findings: Findings, what: str) -> bool:
    """Whether a system turn, or the name of a tool, comes into the prompt."""
    if what == "tool":
        word = str(TOOL["name"])
        return _holds(processor, findings, what, word, ASK, [TOOL])
    return _holds(processor, findings, what, SYSTEM["content"], [SYSTEM, *ASK])


def _thinks(processor: Processor, findings: Findings) -> bool:
    try:
        thinking = processor.render(ASK, thinking=True)
    except (ChatError, CheckpointError) as error:
        findings.warn(ABOUT, str(error))
        return False
    if thinking == processor.render(ASK):
        findings.warn(ABOUT, "Thinking changes nothing in the prompt.")
        return False
    return True


def _marks(processor: Processor, findings: Findings, kind: Kind) -> bool:
    part = {"type": kind, kind: "unread"}
    content = [part, {"type": "text", "text": QUESTION}]
    messages = [{"role": "user", "content": content}]
    return _holds(processor, findings, kind, MARKS[kind], messages)


def _holds(
    processor: Processor,
    findings: Findings,
    what: str,
    word: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> bool:
    try:
        text = processor.render(messages, tools).text
    except (ChatError, CheckpointError) as error:
        findings.warn(ABOUT, f"It takes no {what}: {error}")
        return False
    if word not in text:
        findings.warn(ABOUT, f"It leaves out what a {what} says.")
    return word in text
