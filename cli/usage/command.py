"""Commands whose help is grouped and ends in examples, and that explain mistakes."""

import inspect
from typing import Any

import typer
from typer._click.core import Context
from typer._click.exceptions import NoSuchOption
from typer._click.formatting import HelpFormatter
from typer.core import TyperCommand, TyperGroup

from .layout import usage, write_commands, write_examples, write_parameters
from .mistakes import no_command, too_many

EXAMPLES = "\n\nExamples:\n"  # in a docstring: what follows is shown as it stands
HELP = ("--help", "-h")
MISTAKE = "gemma4.mistake"  # in context.meta: an error to raise when a command runs


class Command(TyperCommand):
    allow_extra_args = True  # until they are explained here

    def __init__(self, name: str | None, help: str | None = None, **settings: Any):
        about, _, self.examples = inspect.cleandoc(help or "").partition(EXAMPLES)
        super().__init__(name, help=about, **settings)

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        typed = list(args)
        try:
            rest = super().parse_args(ctx, args)
        except typer.TyperException as error:
            complete_error(error, ctx, typed)
            raise
        if rest and not ctx.resilient_parsing:
            ctx.fail(too_many(ctx, rest))
        if MISTAKE in ctx.meta:
            raise ctx.meta[MISTAKE]
        return rest

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        pieces = [usage(parameter) for parameter in self.params]
        return ["[OPTIONS]", *filter(None, pieces)]

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        write_parameters(self.get_params(ctx), ctx, formatter)

    def format_epilog(self, ctx: Context, formatter: HelpFormatter) -> None:
        write_examples(self.examples, formatter)


class Group(TyperGroup):
    implied: str | None = None  # the command that is meant where none is named

    def __init__(self, help: str | None = None, **settings: Any):
        about, _, self.examples = inspect.cleandoc(help or "").partition(EXAMPLES)
        super().__init__(help=about, **settings)

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        typed = list(args)
        option = bool(args) and args[0].startswith("-") and args[0] not in HELP
        if self.implied and (option or not (args or ctx.resilient_parsing)):
            args = [self.implied, *args]
        try:
            return super().parse_args(ctx, args)
        except typer.TyperException as error:
            complete_error(error, ctx, typed)
            raise

    def invoke(self, ctx: Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # typer would end without a word
            raise typer.Abort() from None

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[Any, Any, Any]:
        if args[0] not in self.commands and not ctx.resilient_parsing:
            ctx.fail(no_command(ctx, args))
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        write_commands(self.commands.values(), formatter)
        write_parameters(self.get_params(ctx), ctx, formatter)

    def format_epilog(self, ctx: Context, formatter: HelpFormatter) -> None:
        write_examples(self.examples, formatter)


class App(typer.Typer):
    """Makes commands of these kinds. Rich's help would cost 0.1 s of import."""

    def __init__(self, help: str | None = None, cls: type[Group] = Group):
        super().__init__(
            help=help,
            cls=cls,
            no_args_is_help=True,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
            add_completion=False,
        )

    def command(self, name: str | None = None, **settings: Any) -> Any:
        return super().command(name, cls=Command, **settings)


def complete_error(
    error: typer.TyperException, context: Context, typed: list[str]
) -> None:
    """Adds what typer leaves out: the command, and the whole of `-temperature`."""
    if getattr(error, "ctx", None) is None:
        error.ctx = context  # type: ignore[attr-defined]
    if isinstance(error, NoSuchOption) and len(error.option_name) == 2:
        words = (word for word in typed if word.startswith(error.option_name))
        error.option_name = next(words, error.option_name).partition("=")[0]
