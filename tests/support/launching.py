"""Several processes on this machine, as `mlx.launch` starts them."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

PATIENCE = 300  # seconds, on a busy machine


def environments(
    count: int, folder: Path, environ: Mapping[str, str]
) -> list[dict[str, str]]:
    """One for each process, with addresses that are free now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        hosts = [[f"127.0.0.1:{each.getsockname()[1]}"] for each in sockets]
    hostfile = folder / f"hosts-{hosts[0][0].rpartition(':')[2]}.json"
    hostfile.write_text(json.dumps(hosts))
    ours = {"MLX_HOSTFILE": str(hostfile)}
    return [{**environ, **ours, "MLX_RANK": str(rank)} for rank in range(count)]


def start(
    count: int,
    arguments: Sequence[str],
    folder: Path,
    environ: Mapping[str, str] = os.environ,
) -> list[subprocess.Popen[str]]:
    """Python with `arguments` in each process; stdin is the first one's alone."""
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env=each,
            cwd=folder,
            stdin=subprocess.DEVNULL if rank else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, each in enumerate(environments(count, folder, environ))
    ]


def finish(
    processes: Sequence[subprocess.Popen[str]], said: str | None = None
) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each; `said` is what the first one reads."""
    try:
        ends = []
        for process in processes:
            given = said if process is processes[0] else None
            out, err = process.communicate(given, timeout=PATIENCE)
            ends.append((process.returncode, out, err))
        return ends
    finally:
        for process in processes:
            process.kill()
            process.wait()
