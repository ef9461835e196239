"""What an answer may call, and the form that such a call is held to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..chat.calls import NAME, QUOTE
from ..chat.splitter import CALL, CALL_END
from ..chat.tools import ORIGINAL, Declared, declared_tool
from ..errors import ChatError
from .form import Form, form_of

CHOICES = ("auto", "none", "required")


@dataclass(frozen=True)
class Calls:
    """What calls an answer may hold.

    form: of what stands between the mark that begins a call and the end of the one that
        ends it; None leaves it to the model.
    needed: the answer has to be a call.
    several: one call may follow another.
    """

    form: Form | None = None
    needed: bool = False
    several: bool = True

    @property
    def is_free(self) -> bool:
        return self == Calls()


def calls_of(
    tools: Sequence[Mapping[str, Any]] | None,
    special_tokens: Mapping[str, int],
    strict: bool = False,
    choice: str | None = None,
    several: bool = True,
) -> Calls | None:
    """What may be called of `tools`; None where nothing may.

    choice: "auto", "none", "required", or the name of the one tool to call, once.
    strict: a call is held to its tool's declaration; so it is where one has to be made.

    Raises ChatError for a choice without such a tool, and for a declaration that no
    call can be held to.
    """
    choice = "auto" if choice is None else choice
    declared = [declared_tool(t, f"tools[{i}]") for i, t in enumerate(tools or ())]
    names = [tool.name for tool in declared]
    if choice not in (*CHOICES, *names) or (choice == "required" and not names):
        known = f"the tools are {', '.join(names)}" if names else "no tool is declared"
        raise ChatError(
            f"tool_choice is {choice!r}, but {known}. It can be auto, none, required, "
            "or the name of a tool."
        )
    if not names or choice == "none":
        return None
    needed = choice != "auto"
    if not strict and not needed:
        return Calls(several=several)
    if named := choice not in CHOICES:
        declared = [tool for tool in declared if tool.name == choice]
    form = form_of_calls(declared, special_tokens)
    return Calls(form, needed, several and not named)


def form_of_calls(
    declared: Sequence[Declared], special_tokens: Mapping[str, int]
) -> Form:
    """The form of a call of any of some tools. Raises ChatError."""
    from .notation import Notation, quoted  # only what is held to declarations needs it

    if not {CALL, CALL_END, QUOTE} <= special_tokens.keys():
        raise ChatError("This model's vocabulary has no marks for tool calls.")
    # By id: the names of special tokens are hidden from the texts of a form.
    mark, end = (f"<[{special_tokens[name]}]>" for name in (QUOTE, CALL_END))
    notation = Notation(mark)
    calls = []
    for tool in declared:
        if not NAME.fullmatch(tool.name):
            raise ChatError(f"No call can name the tool {tool.name!r}.")
        stated = tool.beside.get(ORIGINAL, tool.parameters)
        if not isinstance(stated, dict | None):
            raise ChatError(
                f"The tool {tool.name}: {ORIGINAL} is no JSON schema object."
            )
        arguments = notation.arguments(stated or {}, f"The tool {tool.name}")
        calls.append(f"{quoted(f'call:{tool.name}')} {arguments}")
    start = f"start: ({' | '.join(calls)}) {end}"
    try:
        found = form_of(None, None, f"{start}\n{notation.rules()}\n")
    except ChatError as error:
        raise ChatError(f"Calls of the tools: {error}") from None
    assert found is not None
    return Form(found.grammar, asked="")
