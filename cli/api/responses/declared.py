"""The tools of a request, as the chat template takes them, and the way back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlx_gemma4.forms.calls import CHOICES

from ...serve.errors import Refused
from ..fields import Fields

# Clients offer these unasked; nobody runs them here, and no answer depends on them.
OFFERED = ("web_search", "web_search_preview", "image_generation", "tool_search")
CALLED = ("function", "custom")


@dataclass(frozen=True)
class Name:
    """What a client calls a tool. custom: it takes a text in place of arguments."""

    name: str
    namespace: str | None = None
    custom: bool = False

    @property
    def said(self) -> str:
        """What the model calls it."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name


@dataclass
class Declared:
    """`tools` for the template; `names` by what the model calls them; `stated` as the
    request has them, and of which kinds some were left out. strict: whether calls are
    to be held to the declarations."""

    tools: list[dict[str, Any]] = field(default_factory=list)
    names: dict[str, Name] = field(default_factory=dict)
    stated: list[Any] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    choice: str = "auto"
    strict: bool = False

    def add(self, tool: Any, where: str, namespace: str | None = None) -> None:
        kind, name = tool.get("type"), tool.get("name")
        if kind not in CALLED or not isinstance(name, str) or not name:
            raise Refused(
                400,
                f"{where} must be a function or custom tool with a name, not {kind!r}.",
                param=where,
            )
        called = Name(name, namespace, kind == "custom")
        if called.said in self.names:
            raise Refused(400, f"Two tools are called {called.said!r}.", param=where)
        self.names[called.said] = called
        plain = Fields(tool, f"{where}.")
        function = _of_text(plain) if called.custom else _plain(plain)
        self.strict |= plain.flag("strict") is True
        declared = {"name": called.said, **function}
        self.tools.append({"type": "function", "function": declared})

    def only(self, allowed: set[str]) -> "Declared":
        """Without the tools that the model does not call by these names."""
        tools = [t for t in self.tools if t["function"]["name"] in allowed]
        names = {said: name for said, name in self.names.items() if said in allowed}
        return replace(self, tools=tools, names=names)


def declared(fields: Fields) -> Declared:
    """What `tools` and `tool_choice` of a request say. Raises Refused."""
    found = Declared()
    for i, tool in enumerate(_listed(fields.values.get("tools"), "tools")):
        kind, where = tool.get("type"), f"tools[{i}]"
        if kind == "namespace":
            space = tool.get("name")
            if not isinstance(space, str) or not space:
                raise Refused(400, f"{where} has no name.", param=f"{where}.name")
            inner = _listed(tool.get("tools"), f"{where}.tools")
            for n, function in enumerate(inner):
                found.add(function, f"{where}.tools[{n}]", space)
        elif kind in OFFERED:
            found.left_out.append(kind)
            continue
        elif kind in CALLED:
            found.add(tool, where)
        else:
            raise Refused(
                400,
                f"{where} is of type {kind!r}, which only OpenAI's servers run: "
                "declare a function that your program runs.",
                param=where,
            )
        found.stated.append(tool)
    chosen = _chosen(fields.values.get("tool_choice"), found)
    if chosen.choice not in ("auto", "none") and not chosen.tools:
        raise fields.wrong("tool_choice", "asks for a call, but there are no tools")
    return chosen


def _chosen(choice: Any, found: Declared) -> Declared:
    if choice is None or choice in CHOICES:
        return replace(found, choice=choice or "auto")
    kind = choice.get("type") if isinstance(choice, Mapping) else None
    if kind in CALLED:
        return replace(found, choice=_known(choice, found))
    if kind == "allowed_tools" and choice.get("mode", "auto") in CHOICES:
        listed = _listed(choice.get("tools"), "tool_choice.tools")
        allowed = {_known(tool, found) for tool in listed}
        return replace(found.only(allowed), choice=choice.get("mode", "auto"))
    raise Refused(
        400,
        f"tool_choice is {choice!r}; it can be {', '.join(CHOICES)}, a declared "
        "function or custom tool, or allowed_tools.",
        param="tool_choice",
    )


def _known(tool: Mapping[str, Any], found: Declared) -> str:
    said = Name(str(tool.get("name")), tool.get("namespace")).said
    if said not in found.names:
        raise Refused(
            400, f"tool_choice names {said!r}, which tools do not.", param="tool_choice"
        )
    return said


def _listed(tools: Any, where: str) -> Sequence[Mapping[str, Any]]:
    tools = [] if tools is None else tools
    if not isinstance(tools, list) or not all(isinstance(t, Mapping) for t in tools):
        raise Refused(400, f"{where} must be a list of objects.", param=where)
    return tools


def _plain(tool: Fields) -> dict[str, Any]:
    known = ("description", "parameters")
    return {key: tool.values[key] for key in known if key in tool}


def _of_text(tool: Fields) -> dict[str, Any]:
    """A tool that takes a text, as a function of one."""
    described, form = tool.text("description") or "", tool.object("format")
    if form is not None and form.one_of("type", ("text", "grammar")) == "grammar":
        syntax, text = form.text("syntax"), form.text("definition")
        described += f"\nThe input has the form of this {syntax} grammar:\n{text}"
    taken = {"type": "object", "properties": {"input": {"type": "string"}}}
    return {
        "description": described.strip(),
        "parameters": {**taken, "required": ["input"]},
    }
