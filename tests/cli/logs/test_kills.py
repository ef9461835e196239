"""A chat that is killed: the last sentence that it showed is kept."""

import subprocess
import sys
from pathlib import Path

import pytest

from mlx_gemma4.cli.logs.resuming import look_up
from mlx_gemma4.cli.logs.store import open_or_make, opened

KILLS = 20
CHAT = """
import sys
from types import SimpleNamespace
from mlx_gemma4 import Chunk
from mlx_gemma4.cli.logs.keeping import Keeper
from mlx_gemma4.cli.render import Screen
from mlx_gemma4.cli.settings import Settings

asked = [{"role": "user", "content": sys.argv[1]}]
held = {"system": None, "declared": None, "settings": Settings()}
keeper = Keeper(Screen())
keeper.begin(SimpleNamespace(asking=asked, **held), "demo", None)
number = 0
while True:
    number += 1
    for piece in (f"word{number}", " and", " more", f" end{number}."):
        keeper.add(Chunk(piece, token=1))
        print(piece, end="", flush=True)
"""


@pytest.mark.slow
def test_the_last_sentence_shown_is_kept(store: Path) -> None:
    open_or_make().close()
    for kill in range(KILLS):
        command = [sys.executable, "-c", CHAT, f"question {kill}"]
        chat = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert chat.stdout is not None
        shown = chat.stdout.read(40 + 97 * kill)
        chat.kill()
        shown += chat.communicate()[0]
        sentences = shown.decode().split(".")
        kept = look_up(None)
        assert kept is not None and len(sentences) > 1
        question, answer = (turn.message["content"] for turn in kept.turns)
        assert question == f"question {kill}"
        assert answer.startswith(".".join(sentences[:-1]) + ".")
        assert kept.turns[-1].finish is None
    with opened() as found:
        assert found.db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert found.count() == KILLS
