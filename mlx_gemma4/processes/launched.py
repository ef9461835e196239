"""Whether `mlx.launch` started this process beside others. Imports nothing heavy."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

RING, JACCL = "MLX_HOSTFILE", "MLX_JACCL_COORDINATOR"


def rank_of(environ: Mapping[str, str] = os.environ) -> int | None:
    """The number of this process among those started together; None where it is
    alone."""
    rank = environ.get("MLX_RANK", "")
    known = any(environ.get(name) for name in (RING, JACCL))
    return int(rank) if rank.isdecimal() and known and not _alone(environ) else None


def first_address(environ: Mapping[str, str] = os.environ) -> str:
    """Where the first process is reached by the others."""
    if coordinator := environ.get(JACCL):
        return _address(coordinator)
    return _address(str(_hosts(environ)[0][0]))


def _address(host: str) -> str:
    """Without the port; IPv6's may stand in brackets."""
    return host.rpartition(":")[0].strip("[]")


def _alone(environ: Mapping[str, str]) -> bool:
    """`mlx.launch -n 1`."""
    return not environ.get(JACCL) and len(_hosts(environ)) < 2


def _hosts(environ: Mapping[str, str]) -> list[list[str]]:
    try:
        found = json.loads(Path(environ.get(RING, "")).read_text() or "[]")
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []
