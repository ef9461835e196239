"""Messages to a prompt: the checkpoint's own chat template over checked messages."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..errors import ChatError, CheckpointError
from ..reading.bounded import read_bytes
from ..reading.json_file import read_json
from ..reading.pointers import refuse_pointer
from .messages import plain_messages
from .rendered import Rendered, own_parts
from .tools import plain_tools

MAX_FILE = 10_000_000  # bytes of a template; what Jinja is given is bounded, too

SMALL, LARGE = "google/gemma-4-{E2B,E4B}-it", "google/gemma-4-{26B-A4B,31B}-it"
# Templates in wide circulation from before Google's corrections of July 2026, by their
# SHA-256.
STALE_TEMPLATES = {
    "2f1b4d75d067bae3fe44e676721c7f077d243bc007156cb9c2f8b5836613d082": SMALL,
    "36e3a42e5cf14cd0020e72d92e1fdd9970f59b82170e421f0cbe1bb42bead3f0": LARGE,
    "94899c0f917d93f6fe81c95744d1e8ddab2d21d39228d2e4aec1fb2a25bff413": LARGE,
}
STALE = (
    "The checkpoint's chat template predates Google's corrections of July 2026 and may "
    "loop on tool calls or misplace thoughts; replace chat_template.jinja by the one "
    "in the model's google/gemma-4-… repository."
)
REMEDY = "Put the chat_template.jinja of the original model into the folder."
NO_TEMPLATE = (
    "{name} has no chat template and cannot chat. Choose an instruction-tuned model "
    "(…-it), or add the original model's chat_template.jinja to its folder."
)
QUESTION = ({"role": "user", "content": "Hello"},)


@dataclass(frozen=True)
class Found:
    """A template and the file that holds it."""

    source: str
    file: Path


class ChatTemplate:
    """A checkpoint's Jinja template.

    special_tokens: those of the tokenizer; a message that holds one only quotes it.
    `stale` is a sentence for the user where the template is a known outdated one,
    else None. `file` is where it was read. Raises CheckpointError if the template is
    empty or not valid Jinja.
    """

    def __init__(
        self,
        source: str,
        bos_token: str,
        eos_token: str = "",
        special_tokens: Iterable[str] = (),
        file: str | Path = "chat_template.jinja",
    ):
        from jinja2 import TemplateSyntaxError, nodes

        from .sandbox import Sandbox

        digest = sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
        self.stale = STALE if digest in STALE_TEMPLATES else None
        self.source = source
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self._special_tokens = tuple(special_tokens)
        self._file = file
        if not source.strip():
            raise CheckpointError(f"{file} holds an empty chat template. {REMEDY}")
        environment = Sandbox()
        try:
            tree = environment.parse(source)
            self._names = {name.name for name in tree.find_all(nodes.Name)}
            self._template = environment.from_string(tree)
        except (TemplateSyntaxError, RecursionError) as error:
            raise CheckpointError(
                f"The chat template in {file} is not valid Jinja ({_describe(error)}). "
                f"{REMEDY}"
            ) from None

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        bos_token: str,
        eos_token: str = "",
        special_tokens: Iterable[str] = (),
    ) -> "ChatTemplate | None":
        """The template of a checkpoint folder, or None where there is none.

        Raises CheckpointError that names the file, also for a template that writes
        nothing of a plain question.
        """
        found = _read_template(folder)
        if found is None:
            return None
        template = cls(found.source, bos_token, eos_token, special_tokens, found.file)
        with suppress(ChatError):  # it may well demand more than a question
            template.render(QUESTION)
        return template

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
        control_tokens: bool = False,
    ) -> Rendered:
        """The prompt text, special tokens spelled out.

        Media parts become the template's placeholders.

        control_tokens: special tokens that stand in messages and tools are taken for
            ones, as if the template had written them.

        Raises ChatError for messages or tools that are not well formed, or that the
        template refuses or ignores, and CheckpointError where it makes nothing at all
        of them.
        """
        from .meter import metered

        if thinking and not self.knows_thinking:
            raise ChatError(
                "This checkpoint's chat template has no thinking; ask without it."
            )
        if tools and "tools" not in self._names:
            raise ChatError("This checkpoint's chat template takes no tools.")
        said: dict[str, Any] = {
            "messages": plain_messages(messages),
            "tools": plain_tools(tools) if tools else None,
        }
        values = {
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            "enable_thinking": thinking,
            **self._tokens,
        }

        def render(said: Mapping[str, Any]) -> str:
            return self._render({**values, **said})

        if control_tokens:
            return Rendered((render(said),))
        with metered(len(said["messages"])):
            return own_parts(render, said, self._special_tokens)

    def _render(self, values: Mapping[str, Any]) -> str:
        from jinja2 import TemplateError

        from .sandbox import bounded_range

        refusals = (TemplateError, ArithmeticError, LookupError, RecursionError)
        try:
            text = self._template.render(values, range=bounded_range())
        except (*refusals, TypeError, ValueError, AttributeError) as error:
            raise ChatError(
                f"The chat template refused the conversation: {_describe(error)}."
            ) from None
        if not text.strip():
            raise CheckpointError(
                f"The chat template in {self._file} makes no text of a conversation. "
                f"{REMEDY}"
            )
        return text


def _read_template(folder: Path) -> Found | None:
    file = folder / "chat_template.jinja"
    try:
        if file.exists():
            content = read_bytes(file, MAX_FILE)
            refuse_pointer(file, content)
            return Found(content.decode("utf-8"), file)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{file} cannot be read: {reason}.") from None
    for name in ("chat_template.json", "tokenizer_config.json"):
        found = read_json(folder / name).get("chat_template")
        if isinstance(found, list):
            entries = [entry for entry in found if isinstance(entry, dict)]
            default = [e.get("template") for e in entries if e.get("name") == "default"]
            found = default[-1] if default else ""
        if found and isinstance(found, str):
            return Found(found, folder / name)
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
