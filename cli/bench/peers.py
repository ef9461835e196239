"""mlx-lm beside ours, where `gemma4 bench` compares."""

from contextlib import ExitStack
from typing import TYPE_CHECKING

from ..render import Screen

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_gemma4.bench.timing import Contender
    from mlx_gemma4.model import Gemma4

    from .report import Facts

MLX_LM, NONE = "mlx-lm", "none"


def peer_fits(model: "Gemma4", tokens: int) -> bool:
    """Whether two programs can hold the model at once."""
    from mlx_gemma4.bench.timing import memory_needed
    from mlx_gemma4.device import memory_limit

    table = model.language_model.table  # which mlx-lm always has in memory
    more = 0 if table is None else table.nbytes
    return 2 * memory_needed(model, tokens) + more <= memory_limit()


def add_peer(
    compared: "dict[str, Contender]",
    stack: ExitStack,
    folder: "Path",
    facts: "Facts",
    against: str | None,
    screen: Screen,
) -> None:
    """mlx-lm among what is compared, or a note why not."""
    from mlx_gemma4.bench.peer import Peer, installed
    from mlx_gemma4.errors import PeerError

    if against == NONE:
        return
    if not installed():
        screen.note("mlx-lm is not installed and left out.")
        return
    screen.passing("Loading it with mlx-lm …")
    try:
        peer = stack.enter_context(Peer(folder, facts.dtype))
    except PeerError as error:
        if against == MLX_LM:
            raise
        screen.passed()
        screen.note(f"mlx-lm is left out. {error}")
    else:
        facts.versions[MLX_LM] = peer.version
        compared[MLX_LM] = peer
    finally:
        screen.passed()
