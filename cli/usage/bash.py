"""The answer for bash, which is imported only where it asks."""

import os

from typer._click.shell_completion import CompletionItem
from typer._completion_classes import BashComplete, FishComplete


class Bash(BashComplete):
    """Given the line up to the cursor, not words that are taken apart at colons."""

    def get_completion_args(self) -> tuple[list[str], str]:
        other = FishComplete(self.cli, self.ctx_args, self.prog_name, self.complete_var)
        return other.get_completion_args()

    def format_completion(self, item: CompletionItem) -> str:
        word, value = self.get_completion_args()[1], str(item.value)
        if word.startswith("--"):  # --model=e4b
            word = word.partition("=")[2]
        if ":" in word and ":" in os.environ.get("GEMMA4_WORDBREAKS", ""):
            value = value.removeprefix(word.rpartition(":")[0] + ":")
        return value.replace(" ", "\\ ")
