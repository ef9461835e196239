"""What `mlx.launch` says to a process that it starts."""

import json
from pathlib import Path

import pytest

from mlx_gemma4.launched import count, first_address, rank_of, unusable


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
    assert (rank_of(environ), count(environ)) == (1, 2)
    assert rank_of({**environ, "MLX_RANK": "x"}) is None
    assert rank_of({"MLX_RANK": "1"}) is None
    assert rank_of({"MLX_RANK": "1", "MLX_JACCL_COORDINATOR": "10.0.0.1:1"}) == 1


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({"MLX_JACCL_COORDINATOR": "a:1", "MLX_RANK": "1"}, ("jaccl", 1)),
        ({"NCCL_HOST_IP": "a", "MLX_WORLD_SIZE": "2", "MLX_RANK": "0"}, ("nccl", 0)),
        ({"NCCL_HOST_IP": "a", "MLX_WORLD_SIZE": "1", "MLX_RANK": "0"}, None),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, ("mpi", 1)),
        ({"MLX_HOSTFILE": "x", "MLX_RANK": "0"}, None),
    ],
)
def test_backends_that_cannot_be_used(
    environ: dict[str, str], found: tuple[str, int] | None
) -> None:
    assert unusable(environ, "linux") == found
    assert unusable({"MLX_JACCL_COORDINATOR": "a:1"}, "darwin") is None


def test_how_many_use_jaccl(tmp_path: Path) -> None:
    devices = tmp_path / "devices.json"
    devices.write_text('[[null, "rdma_en2"], ["rdma_en2", null]]')
    environ = {"MLX_RANK": "0", "MLX_JACCL_COORDINATOR": "10.0.0.1:1"}
    assert count({**environ, "MLX_IBV_DEVICES": str(devices)}) == 2
