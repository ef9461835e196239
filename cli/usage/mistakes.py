"""What a slip on the command line is told: what was wrong with which word, and the
nearest one that would be right."""

import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import typer
from typer._click.core import Context
from typer._click.exceptions import MissingParameter, NoSuchOption
from typer.core import TyperArgument, TyperGroup, TyperOption

from .layout import bounds, metavar

# What other programs call it, and what it is called here.
ELSEWHERE = {
    "run": "chat",
    "ask": "chat",
    "generate": "chat",
    "ls": "list",
    "models": "list",
    "download": "pull",
    "install": "pull",
    "get": "pull",
    "remove": "rm",
    "delete": "rm",
    "info": "show",
    "history": "logs",
    "settings": "config",
    "quantize": "convert",
    "create": "convert",
    "train": "tune",
    "finetune": "tune",
    "caption": "describe",
    "whisper": "transcribe",
}
# What other programs have, and this one has not.
ABSENT = {
    "ps": "No model stays in memory when its command has ended.",
    "stop": "No model stays in memory when its command has ended.",
    "help": "Did you mean --help?",
    "version": "Did you mean --version?",
}
ALIKE = 0.65  # so far two words may be from each other
BEGUN = 3  # letters that are enough to know what a word was to become
KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """One or two that `word` begins, or is like."""
    names = sorted(known)
    begun = [name for name in names if name.startswith(word)]
    if len(word) >= BEGUN and len(begun) in (1, 2):
        return begun
    return get_close_matches(word, names, n=2, cutoff=ALIKE)


def suggestion(word: str, known: Iterable[str]) -> str:
    """` Did you mean …?` for what is near to a mistyped word, or nothing."""
    alike = nearest(word, known)
    return f" Did you mean {' or '.join(alike)}?" if alike else ""


def no_command(context: Context, words: Sequence[str]) -> str:
    """For a first word that is no command of this group."""
    command, word = context.command, words[0]
    assert isinstance(command, TyperGroup)
    start = f"No such command {word!r}."
    if context.parent is None and (len(word.split()) > 1 or word.endswith("?")):
        return f"{start} To ask it: {context.info_name} chat {quoted(word)}"
    meant = ELSEWHERE.get(word) if context.parent is None else None
    if word == "run" and len(words) > 1:
        return f"{start} Did you mean {context.info_name} {_chat_with(words[1])}?"
    if meant in command.commands:
        return f"{start} Did you mean {meant}?"
    if word in ABSENT and context.parent is None:
        return f"{start} {ABSENT[word]}"
    return start + suggestion(word, command.commands)


def _chat_with(model: str) -> str:
    """What `run MODEL`, as other programs have it, is called here."""
    from mlx_gemma4.hub.names import is_family, meant

    if is_family(model):
        return "chat"
    near = None if "/" in model else meant(model)
    return f"chat -m {shlex.quote(near or model)}"


def too_many(context: Context, extra: Sequence[str]) -> str:
    """For words that a command has no place for."""
    name = context.info_name
    arguments = [p for p in context.command.params if isinstance(p, TyperArgument)]
    names = [metavar(argument) for argument in arguments]
    if names == ["PROMPT"]:
        return _unquoted(context, [str(context.params["prompt"]), *extra])
    if not names:
        takes_model = any("--model" in each.opts for each in context.command.params)
        hint = f" Did you mean --model {extra[0]}?" if takes_model else ""
        return f"{name} takes no {extra[0]!r}.{hint}"
    return (
        f"{name} takes {' and '.join(names)}; {extra[0]!r} is one too "
        "many. A name with spaces in it needs quotes."
    )


def _unquoted(context: Context, words: list[str]) -> str:
    """For a prompt without quotes, or several files behind one option."""
    path = context.command_path
    files = [word for word in words if os.path.exists(word)]
    for option in context.command.params:
        if not isinstance(option, TyperOption) or metavar(option) != "FILE":
            continue
        given = list(context.params.get(option.name) or ()) if option.multiple else []
        if given and files[:1] == words[:1]:
            name = option.opts[0]
            each = " ".join(f"{name} {shlex.quote(file)}" for file in [*given, *files])
            rest = " ".join(word for word in words if word not in files)
            asked = f" {quoted(rest)}" if rest else ""
            return f"{name} takes one file; name it again: {path} {each}{asked}"
    return f"The prompt needs quotes: {path} {quoted(' '.join(words))}"


def quoted(text: str) -> str:
    """As it can be typed in a shell."""
    plain = not set(text) & set('"\\$`!')
    return f'"{text}"' if plain else shlex.quote(text)


def explained(error: typer.TyperException) -> str:
    """The message for a mistake that was found by typer."""
    if isinstance(error, NoSuchOption):
        return _no_option(error)
    if isinstance(error, MissingParameter) and isinstance(error.param, TyperArgument):
        return f"{metavar(error.param)} is missing: {error.param.help}"
    if isinstance(error, typer.BadParameter):
        value = _refused(error)
        if value is not None and isinstance(error.param, TyperArgument | TyperOption):
            source = where(error.param, error.ctx)
            return f"{source} is {value!r}; it takes {taken(error.param, value)}"
    return error.format_message()


def where(parameter: TyperArgument | TyperOption, context: Context | None) -> str:
    """What gave a parameter its value."""
    source = context and context.get_parameter_source(parameter.name)
    if source and source.name == "ENVIRONMENT":
        return str(parameter.envvar)
    if isinstance(parameter, TyperArgument):
        return metavar(parameter)
    return max(parameter.opts, key=len)


def _refused(error: typer.BadParameter) -> object:
    """The value that typer could not convert; None if that was not the mistake."""
    errors = getattr(error.__cause__, "errors", None)  # pydantic's
    return errors()[0]["input"] if errors else None


def taken(parameter: TyperArgument | TyperOption, value: object) -> str:
    """The values that a parameter takes, in words."""
    parser: Callable[[Any], Any] | None = (
        parameter.type_descriptor.parameter_info.parser
    )
    if parser is not None:  # which says it itself
        try:
            parser(value)
        except ValueError as error:
            return str(error)
    choices = [str(choice) for choice in parameter.type_descriptor.choices or ()]
    if choices:
        hint = suggestion(str(value), choices)
        return f"{', '.join(choices[:-1])} or {choices[-1]}.{hint}"
    kind = parameter.type_descriptor.annotation
    return f"{KINDS.get(kind, 'text')} {bounds(parameter)}".rstrip() + "."


def _no_option(error: NoSuchOption) -> str:
    context, name = error.ctx, error.option_name
    assert context is not None
    if isinstance(context.command, TyperGroup):
        for each in context.command.commands.values():
            if any(name in parameter.opts for parameter in each.params):
                path = f"{context.command_path} {each.name}"
                return f"{name} stands behind its command: {path} {name}"
    known = {
        option.lstrip("-"): option
        for parameter in context.command.get_params(context)
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    alike = nearest(name.lstrip("-"), known)
    hint = f" Did you mean {' or '.join(known[each] for each in alike)}?"
    return f"No such option: {name}." + (hint if alike else "")
