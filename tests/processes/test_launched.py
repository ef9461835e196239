"""What `mlx.launch` says to a process that it starts."""

import json
from pathlib import Path

import pytest

from mlx_gemma4.processes.launched import first_address, rank_of


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.168.1.10:5000", "192.168.1.10"),
        ("mini.local:5000", "mini.local"),
        ("[fe80::1%en0]:5000", "fe80::1%en0"),
        ("fe80::1:5000", "fe80::1"),
    ],
)
def test_where_the_first_is(tmp_path: Path, host: str, address: str) -> None:
    hostfile = tmp_path / "hosts.json"
    hostfile.write_text(json.dumps([[host, "10.0.0.1:5001"], ["192.168.1.11:5002"]]))
    assert first_address({"MLX_HOSTFILE": str(hostfile)}) == address
    assert first_address({"MLX_JACCL_COORDINATOR": host}) == address


def test_who_is_alone(tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts.json"
    environ = {"MLX_RANK": "1", "MLX_HOSTFILE": str(hostfile)}
    assert rank_of(environ) is None  # there is no such file
    hostfile.write_text('[["127.0.0.1:1"]]')
    assert rank_of(environ) is None
    hostfile.write_text('[["127.0.0.1:1"], ["127.0.0.1:2"]]')
    assert rank_of(environ) == 1
    assert rank_of({**environ, "MLX_RANK": "x"}) is None
    assert rank_of({"MLX_RANK": "1"}) is None
    assert rank_of({"MLX_RANK": "1", "MLX_JACCL_COORDINATOR": "10.0.0.1:1"}) == 1
