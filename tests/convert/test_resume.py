"""Conversions that are stopped, killed or disturbed, and go on."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jobs
import pytest
from places import TESTS

from mlx_gemma4.checkpoint import shards
from mlx_gemma4.convert import job, journal, output, stream
from mlx_gemma4.convert.errors import OutputError
from mlx_gemma4.errors import BusyError, CheckpointError, DiskFullError


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jobs.source(tmp_path_factory.mktemp("hub"), shards=2, unused_kv=True)


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of an undisturbed conversion."""
    out = tmp_path_factory.mktemp("whole") / "out"
    jobs.convert(source, out)
    return jobs.digests(out)


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [1, 2, 60, 120, 160])
def test_goes_on_after_a_stop(
    blocks: int, source: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(jobs.Stopped):
        jobs.convert(source, out, advance=jobs.stop_after(blocks))
    assert not out.exists()
    notes: list[str] = []
    counted: list[int] = []
    left = job.left_to_do(jobs.plan(source), out)
    result = jobs.convert(source, out, advance=counted.append, note=notes.append)
    assert jobs.digests(out) == whole
    assert not output.partial(out).exists()
    assert sum(counted) == sum(tensor.source_bytes for tensor in left)
    assert (len(left) < len(result.plan.tensors)) == (blocks > 1)
    assert result.resumed == bool(notes) == (blocks > 1)


def test_finished_tensors_are_not_converted_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, done = tmp_path / "out", []
    with pytest.raises(jobs.Stopped):
        jobs.convert(source, out, advance=jobs.stop_after(100))
    lines = (output.partial(out) / journal.NAME).read_text().splitlines()
    before = {
        record["tensor"] for line in lines if "tensor" in (record := json.loads(line))
    }
    real = stream._convert_tensor
    monkeypatch.setattr(
        stream,
        "_convert_tensor",
        lambda t, *rest: done.append(t.name) or real(t, *rest),
    )
    jobs.convert(source, out)
    assert before and done and not before & set(done)


@pytest.mark.slow
def test_a_torn_line_is_dropped(
    source: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(jobs.Stopped):
        jobs.convert(source, out, advance=jobs.stop_after(90))
    path = output.partial(out) / journal.NAME
    path.write_bytes(path.read_bytes()[:-9])
    jobs.convert(source, out)
    assert jobs.digests(out) == whole


@pytest.mark.slow
def test_harm_to_unfinished_files_is_repaired(
    source: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    """Such as a power failure leaves, which loses what the journal says is there."""
    out = tmp_path / "out"
    with pytest.raises(jobs.Stopped):
        jobs.convert(source, out, advance=jobs.stop_after(150), shard_bytes=10**9)
    (file,) = (output.partial(out) / "model").glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[len(data) // 4 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 4)
    file.write_bytes(data)
    jobs.convert(source, out, shard_bytes=10**9)
    reference = tmp_path / "reference"
    jobs.convert(source, reference, shard_bytes=10**9)
    assert jobs.digests(out) == jobs.digests(reference)


def test_changed_source_is_noticed(tmp_path: Path) -> None:
    source, out = jobs.source(tmp_path / "hub"), tmp_path / "out"
    with pytest.raises(jobs.Stopped):
        jobs.convert(source, out, advance=jobs.stop_after(50))
    file = source / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="model.safetensors .* changed"):
        jobs.convert(source, out)
    assert not out.exists()


def test_change_while_reading_is_noticed(tmp_path: Path) -> None:
    source = jobs.source(tmp_path / "hub")

    def touch(count: int) -> None:
        os.utime(source / "model.safetensors", ns=(0, 0))

    with pytest.raises(CheckpointError, match="while it was being converted"):
        jobs.convert(source, tmp_path / "out", advance=touch)


def test_truncation_while_reading_is_noticed(tmp_path: Path) -> None:
    source = jobs.source(tmp_path / "hub")
    with pytest.raises(CheckpointError, match="truncated|changed"):
        jobs.convert(
            source,
            tmp_path / "out",
            advance=lambda count: os.truncate(source / "model.safetensors", 40_000),
        )


def test_other_settings_are_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(jobs.Stopped):
        jobs.convert(source, out, advance=jobs.stop_after(50))
    with pytest.raises(OutputError, match="other settings"):
        jobs.convert(source, out, "8bit")


@pytest.mark.slow
def test_second_process_is_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused: list[str] = []

    def again(count: int) -> None:
        if not refused:
            with pytest.raises(
                BusyError, match=r"partial is being written by another process"
            ) as caught:
                jobs.convert(source, out)
            refused.append(str(caught.value))

    jobs.convert(source, out, advance=again)
    assert refused


@pytest.mark.slow
def test_full_disk(
    source: Path,
    whole: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, left = os.pwrite, [30]

    def full(descriptor: int, data: memoryview, offset: int) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data, offset)

    monkeypatch.setattr(shards.os, "pwrite", full)
    out = tmp_path / "out"
    with pytest.raises(DiskFullError, match="disk is full.*run the same command"):
        jobs.convert(source, out)
    assert not out.exists()
    monkeypatch.setattr(shards.os, "pwrite", real)
    jobs.convert(source, out)
    assert jobs.digests(out) == whole


def test_disk_that_forgets_is_noticed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def forget(descriptor: int, data: memoryview, offset: int) -> int:
        return real(descriptor, bytes(len(data)) if len(data) == 128 else data, offset)

    monkeypatch.setattr(shards.os, "pwrite", forget)
    with pytest.raises(OutputError, match="is not what was written"):
        jobs.convert(source, tmp_path / "out")


RUN = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import jobs
def slow(count):
    print(count, flush=True)
    time.sleep(0.002)
folders = Path(sys.argv[1]), Path(sys.argv[2])
jobs.convert(*folders, advance=slow, block_bytes=3000)
"""


@pytest.mark.slow
@pytest.mark.parametrize("lines", [3, 120, 250])
def test_killed_process(
    lines: int, source: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = [sys.executable, "-c", RUN, str(source), str(out)]
    process = subprocess.Popen(
        [*arguments, str(TESTS / "support")], stdout=subprocess.PIPE
    )
    assert process.stdout
    for _ in range(lines):
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    process.stdout.close()
    assert not out.exists()
    jobs.convert(source, out)
    assert jobs.digests(out) == whole
