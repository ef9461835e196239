"""Shell completion: setting it up, and answering the shell.

What can follow an option is in names.py.
"""

import os
from typing import Annotated

import typer

from ..errors import UsageError, unwritable
from .mistakes import suggestion

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_GEMMA4_COMPLETE"  # the shell's question
# Bash takes words apart at colons, and e4b:8bit has one: it is given the line instead,
# and gets what belongs behind the last break.
BASH = """
%(complete_func)s() {
    local IFS=$'\\n'
    COMPREPLY=( $(env _TYPER_COMPLETE_ARGS="${COMP_LINE:0:COMP_POINT}" \\
        GEMMA4_WORDBREAKS="$COMP_WORDBREAKS" %(autocomplete_var)s=complete_bash "$1") )
}
complete -o default -F %(complete_func)s %(prog_name)s
"""


def answer_shell() -> None:
    """Teaches typer the shells, where one of them asks."""
    if VARIABLE in os.environ:
        from typer._click.shell_completion import add_completion_class
        from typer._completion_classes import completion_init

        from .bash import Bash

        completion_init()
        add_completion_class(Bash, "bash")


def script(shell: str) -> str:
    """What makes a shell ask."""
    from typer import _completion_shared as shared

    shared._completion_scripts["bash"] = BASH
    return shared.get_completion_script(
        prog_name="gemma4", complete_var=VARIABLE, shell=shell
    )


def shell_of(name: str) -> str:
    """A shell by its name; by an empty one, that which this was started from.

    Raises UsageError for one that is not known.
    """
    if not name:
        from typer._completion_shared import _get_shell_name

        name = _get_shell_name() or ""
    if name not in SHELLS:
        known = f"There is completion for {', '.join(SHELLS[:-1])} and {SHELLS[-1]}"
        what = f", not for {name}." if name else ": name one of them."
        raise UsageError(f"{known}{what}{suggestion(name, SHELLS)}")
    return name


def install(context: typer.Context, name: str | None) -> None:
    """For a shell that is named, or the one that this was started from."""
    if name is None or context.resilient_parsing:
        return
    from typer import _completion_shared as shared

    shell = shell_of(name)
    script(shell)  # ours for bash
    try:
        _, path = shared.install(shell, "gemma4", VARIABLE)
    except OSError as error:
        raise unwritable(error.filename, error) from None
    print(f"Completion for {shell} is installed: {path}")
    print("It works in terminals that are opened from now on.")
    raise typer.Exit


def show(context: typer.Context, name: str | None) -> None:
    if name is not None and not context.resilient_parsing:
        print(script(shell_of(name)))
        raise typer.Exit


Install = Annotated[
    str | None,
    typer.Option(
        "--install-completion",
        metavar="[SHELL]",
        callback=install,
        is_eager=True,
        help="Complete commands, options and models with Tab, in bash, zsh or fish.",
    ),
]
Show = Annotated[
    str | None,
    typer.Option(
        "--show-completion",
        metavar="[SHELL]",
        callback=show,
        is_eager=True,
        help="Print what --install-completion would install.",
    ),
]
OPTIONAL = ("--install-completion", "--show-completion")


def with_shell(args: list[str]) -> list[str]:
    """`args`, where one of these options may stand alone."""
    return [*args, ""] if args in [[name] for name in OPTIONAL] else args
