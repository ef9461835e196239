"""Whether `mlx.launch` started this process beside others. Imports nothing heavy."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

RING, JACCL = "MLX_HOSTFILE", "MLX_JACCL_COORDINATOR"
DEVICES = "MLX_IBV_DEVICES"  # of JACCL


def rank_of(environ: Mapping[str, str] = os.environ) -> int | None:
    """The number of this process among those started together; None where it is
    alone."""
    rank = environ.get("MLX_RANK", "")
    known = any(environ.get(name) for name in (RING, JACCL))
    return int(rank) if rank.isdecimal() and known and not _alone(environ) else None


def backend(environ: Mapping[str, str] = os.environ) -> str:
    """What carries the sums, as MLX calls it."""
    return "jaccl" if environ.get(JACCL) else "ring"


def unusable(
    environ: Mapping[str, str] = os.environ, platform: str = sys.platform
) -> tuple[str, int] | None:
    """The backend by which this process was started beside others, if it is one that
    cannot be used here, and the process's number."""
    if environ.get(JACCL) and platform != "darwin":
        return "jaccl", _number(environ, "MLX_RANK")
    if environ.get("NCCL_HOST_IP") and _number(environ, "MLX_WORLD_SIZE") > 1:
        return "nccl", _number(environ, "MLX_RANK")
    if _number(environ, "OMPI_COMM_WORLD_SIZE") > 1:
        return "mpi", _number(environ, "OMPI_COMM_WORLD_RANK")
    return None


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    return int(text) if text.isdecimal() else 0


def count(environ: Mapping[str, str] = os.environ) -> int:
    """How many processes were started together; 1 where this one is alone."""
    if rank_of(environ) is None:
        return 1
    return len(_listed(environ, DEVICES if environ.get(JACCL) else RING)) or 1


def first_address(environ: Mapping[str, str] = os.environ) -> str:
    """Where the first process is reached by the others."""
    if coordinator := environ.get(JACCL):
        return _address(coordinator)
    return _address(str(_listed(environ, RING)[0][0]))


def _address(host: str) -> str:
    """Without the port; IPv6's may stand in brackets."""
    return host.rpartition(":")[0].strip("[]")


def _alone(environ: Mapping[str, str]) -> bool:
    """`mlx.launch -n 1`."""
    return not environ.get(JACCL) and len(_listed(environ, RING)) < 2


def _listed(environ: Mapping[str, str], name: str) -> list[list[str]]:
    """What a file that `name` stands for says of each process."""
    try:
        found = json.loads(Path(environ.get(name, "")).read_text() or "[]")
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []
