"""Conversions read from the Hub tensor by tensor, and what disturbs them."""

import json
import os
import signal
from pathlib import Path
from threading import Thread
from typing import Any

import hub_server
import jobs
import layouts
import mlx.core as mx
import pytest
from hub_server import Contents, Hub

from mlx_gemma4.checkpoint.files import INDEX
from mlx_gemma4.convert import ahead, journal, output, ranges
from mlx_gemma4.convert.job import Result, plan_source, run, to_fetch
from mlx_gemma4.convert.remote import remote
from mlx_gemma4.convert.source import Source
from mlx_gemma4.convert.survey import Wishes
from mlx_gemma4.errors import CheckpointError, DiskFullError, ModelNotFoundError
from mlx_gemma4.hub.cache import Cache
from mlx_gemma4.hub.transfer import Transfer

NAME, RECIPE = "org/tiny", "bf16"  # which costs least
FIRST, SECOND = (f"model-0000{i}-of-00002.safetensors" for i in (1, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jobs.source(tmp_path_factory.mktemp("source"), "31B", shards=2)


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of what is made of the same files from a folder."""
    out = tmp_path_factory.mktemp("whole") / "out"
    jobs.convert(folder, out, RECIPE, name=NAME)
    return made(out)


@pytest.fixture
def hub(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """With a small model; the pieces are small, and nothing waits long."""
    monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
    monkeypatch.setattr(ahead, "PIECE", 100_000)
    monkeypatch.setattr(ahead, "CONNECTIONS", 3)
    monkeypatch.setattr(ahead, "AHEAD", 4)
    monkeypatch.setattr(ranges, "WAITS", (0.0, 0.0, 0.0))
    hub.add(NAME, folder)
    return hub


def convert(source: Source, out: Path, name: str = NAME, **how: Any) -> Result:
    how = {"shard_bytes": jobs.SHARD, "advance": lambda count: None, **how}
    plan = plan_source(source, Wishes(how.pop("recipe", RECIPE)), name)
    return run(source, out, plan, name, **how)


def made(out: Path) -> dict[str, str]:
    """Digests of all but the record, which says where the source was."""
    digests = jobs.digests(out)
    del digests["conversion.json"]
    return digests


def weights(hub: Hub) -> int:
    """Bytes of weights that went out."""
    return hub.sent[FIRST] + hub.sent[SECOND]


@pytest.mark.slow
def test_the_same_as_from_a_folder(hub: Hub, tmp_path: Path) -> None:
    """Packed, with experts, per-layer tables, towers, and tensors that nobody reads."""
    folder = jobs.source(tmp_path / "source", shards=2, unused_kv=True)
    hub.add(NAME, folder)
    source, out = remote(NAME), tmp_path / "out"
    counted: list[int] = []
    result = convert(source, out, recipe="4bit", advance=counted.append)
    jobs.convert(folder, tmp_path / "local", name=NAME)
    assert made(out) == made(tmp_path / "local")
    assert sum(counted) == result.plan.source_bytes
    # The headers, and each tensor that is used, once; of the cache, small files.
    used = {each.name for tensor in result.plan.tensors for each in (tensor.first,)}
    assert used < source.tensors.keys()
    unused = sum(t.nbytes for n, t in source.tensors.items() if n not in used)
    sizes = sum((folder / name).stat().st_size for name in (FIRST, SECOND))
    assert unused and weights(hub) == sizes - unused
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    assert max(f.stat().st_size for f in (tmp_path / "cache").rglob("*")) < 100_000
    before = weights(hub)
    assert convert(remote(NAME), out, recipe="4bit").complete_before
    assert weights(hub) < before + 30_000  # headers alone


@pytest.mark.slow
def test_a_finished_one_is_known_from_the_cache_as_well(
    hub: Hub, tmp_path: Path
) -> None:
    """Whether files are read at the Hub or in its cache, they are the same files."""
    source = remote(NAME)
    convert(source, tmp_path / "out")
    fetch(hub, source, FIRST, SECOND)
    here = remote(NAME)
    assert not here.at_hub and here.fingerprints() == source.fingerprints()
    assert convert(here, tmp_path / "out").complete_before


def fetch(hub: Hub, source: Source, *names: str) -> None:
    """As a download of these files would."""
    assert source.commit is not None
    cache = Cache.of(NAME, source.commit)
    transfer = Transfer(NAME, cache, lambda count: None, lambda text: None)
    for file in source.at_hub.values():
        if file.name in names:
            transfer.fetch(file)


@pytest.mark.slow
def test_what_is_in_the_cache_is_read_there(
    hub: Hub, whole: dict[str, str], tmp_path: Path
) -> None:
    fetch(hub, remote(NAME), FIRST)
    hub.sent.clear()
    source = remote(NAME)
    assert [file.name for file in source.at_hub.values()] == [SECOND]
    convert(source, tmp_path / "out")
    assert made(tmp_path / "out") == whole
    assert not hub.sent[FIRST] and hub.sent[SECOND]
    assert len([*(tmp_path / "cache").rglob(FIRST)]) == 1  # nothing is removed


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [2, 40])
def test_goes_on_with_the_commit_that_it_began_with(
    blocks: int, hub: Hub, folder: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(jobs.Stopped):
        convert(remote(NAME), out, advance=jobs.stop_after(blocks))
    first = weights(hub)
    hub.repos[NAME].commit({"config.json": b"{}"})
    before = journal.begun(output.partial(out))
    assert before is not None and before.source == NAME and before.tensors
    source = remote(NAME, before.commit)
    plan = plan_source(source, Wishes(RECIPE), NAME)
    left, second = to_fetch(plan, source, out), weights(hub)
    assert left < plan.source_bytes
    assert convert(source, out).resumed
    assert made(out) == whole
    assert weights(hub) - second == left
    # What was fetched ahead of the stop, and no more, came twice.
    headers = second - first
    twice = (
        weights(hub)
        - headers
        - sum((folder / name).stat().st_size for name in (FIRST, SECOND))
    )
    assert twice <= (ahead.AHEAD + 1) * ahead.PIECE


@pytest.mark.slow
def test_harm_to_what_was_done_is_repaired(
    hub: Hub, folder: Path, tmp_path: Path
) -> None:
    """What the journal says is there is read again, though nobody expected it."""
    source, out = remote(NAME), tmp_path / "out"
    one_file: dict[str, Any] = {"shard_bytes": 10**9}
    with pytest.raises(jobs.Stopped):
        convert(source, out, advance=jobs.stop_after(40), **one_file)
    (file,) = (output.partial(out) / "model").glob("*.safetensors")
    data = file.read_bytes()
    file.write_bytes(data[:20_000] + bytes(len(data) - 20_000))
    assert convert(source, out, **one_file).resumed
    jobs.convert(folder, tmp_path / "local", RECIPE, name=NAME, **one_file)
    assert made(out) == made(tmp_path / "local")


def test_lost_connections_are_made_anew(
    hub: Hub, whole: dict[str, str], tmp_path: Path
) -> None:
    source = remote(NAME)
    before = weights(hub)
    hub.cut = {FIRST: [70_000, 200_000], SECOND: [90_000]}
    notes: list[str] = []
    result = convert(source, tmp_path / "out", note=notes.append)
    assert made(tmp_path / "out") == whole
    assert weights(hub) - before == result.plan.source_bytes  # nothing came twice
    assert not any(hub.cut.values())
    (note,) = notes  # one, however many connections
    assert "The connection was lost" in note and "trying again" in note


@pytest.mark.slow
def test_a_hub_that_stays_away(hub: Hub, whole: dict[str, str], tmp_path: Path) -> None:
    source, out = remote(NAME), tmp_path / "out"
    plan = plan_source(source, Wishes(RECIPE), NAME)
    hub.cut = {FIRST: [0] * 99, SECOND: [0] * 99}
    with pytest.raises(ModelNotFoundError, match="did not come back: check the netw"):
        run(source, out, plan, NAME, lambda count: None, shard_bytes=jobs.SHARD)
    assert not out.exists()
    hub.cut.clear()
    convert(remote(NAME), out)
    assert made(out) == whole


@pytest.mark.parametrize(
    "change", ["content", pytest.param("length", marks=pytest.mark.slow)]
)
def test_a_file_that_changes_is_noticed(change: str, hub: Hub, tmp_path: Path) -> None:
    source = remote(NAME)
    files = hub.repos[NAME].commits[hub.repos[NAME].main]
    data = files[SECOND]
    assert isinstance(data, bytes)
    files[SECOND] = data[:-1] + (b"!!" if change == "length" else b"!")
    with pytest.raises(CheckpointError, match=f"{SECOND} of {NAME} changed at the Hub"):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_change_between_two_runs_is_noticed(hub: Hub, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(jobs.Stopped):
        convert(remote(NAME), out, advance=jobs.stop_after(5))
    files = hub.repos[NAME].commits[hub.repos[NAME].main]
    data = files[SECOND]
    assert isinstance(data, bytes)
    files[SECOND] = data[:-1] + b"!"
    with pytest.raises(CheckpointError, match=f"{SECOND} of {NAME} changed since"):
        convert(remote(NAME), out)


def test_the_token_goes_to_the_hub_alone(
    hub: Hub, whole: dict[str, str], tmp_path: Path
) -> None:
    hub.repos[NAME].gated = True
    convert(remote(NAME), tmp_path / "out")
    assert made(tmp_path / "out") == whole
    stored = [r for r in hub.requests if r.path.startswith("/storage/")]
    asked = [r for r in hub.requests if "/resolve/" in r.path]
    assert stored and {r.token for r in stored} == {None}
    assert asked and {r.token for r in asked} == {hub_server.TOKEN}
    assert {r.host for r in stored}.isdisjoint(r.host for r in asked)


@pytest.mark.slow
def test_an_address_that_is_too_old_is_asked_for_anew(
    hub: Hub, whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, served = remote(NAME), [0]
    send = hub_server.Handler.send_stored

    def expiring(handler: hub_server.Handler, place: str) -> None:
        served[0] += 1
        if served[0] in (3, 30):
            handler.start(403, {"Content-Length": "0"})
        else:
            send(handler, place)

    monkeypatch.setattr(hub_server.Handler, "send_stored", expiring)
    notes: list[str] = []
    convert(source, tmp_path / "out", note=notes.append)
    assert made(tmp_path / "out") == whole
    assert served[0] > 30 and not notes


def test_refusals(
    hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelNotFoundError, match="not on the Hub"):
        remote("org/absent")
    with pytest.raises(ModelNotFoundError, match="no revision 'v9'"):
        remote(f"{NAME}@v9")
    hub.add("org/pickles", {"config.json": b"{}", "model.bin": b"1"})
    with pytest.raises(CheckpointError, match="no safetensors weights"):
        remote("org/pickles")
    config = json.loads((folder / "config.json").read_text())
    files: dict[str, Contents] = {f.name: f.read_bytes() for f in folder.iterdir()}
    text = json.dumps(config | {"model_type": "gemma3"})
    hub.add("org/later", files | {"config.json": text.encode()})
    later = remote("org/later")
    before = weights(hub)
    with pytest.raises(CheckpointError, match="gemma3"):
        plan_source(later, Wishes(RECIPE), "org/later")
    assert weights(hub) == before
    hub.add("org/torn", files | {FIRST: b"\xff" * 9})
    with pytest.raises(CheckpointError, match=f"^org/torn/{FIRST} is truncated or no"):
        remote("org/torn")
    del files[INDEX], files[SECOND]
    hub.add("org/part", files)
    with pytest.raises(CheckpointError, match=f"lacks {SECOND}"):
        remote("org/part")
    hub.repos[NAME].gated = True
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ModelNotFoundError, match="is gated: accept its licence"):
        remote(NAME)


@pytest.mark.slow
def test_only_the_result_has_to_fit(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = remote(NAME)
    plan = plan_source(source, Wishes(RECIPE), NAME)
    monkeypatch.setattr(output, "free_space", lambda out: plan.out_bytes)
    convert(source, tmp_path / "out")
    monkeypatch.setattr(output, "free_space", lambda out: plan.out_bytes - 1)
    before = weights(hub)
    with pytest.raises(DiskFullError, match="of result do not fit"):
        convert(source, tmp_path / "other")
    assert weights(hub) == before


def test_nobody_waits_for_a_read_after_a_stop(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the server sends nothing."""
    source = remote(NAME)
    plan = plan_source(source, Wishes(RECIPE), NAME)
    hub.stall = {SECOND: 100_000}
    advance: list[int] = []

    def stop() -> None:
        hub.stalled.wait()
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        Thread(target=stop).start()
        with pytest.raises(KeyboardInterrupt):
            run(source, tmp_path / "out", plan, NAME, advance.append)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not hub.resume.is_set() and sum(advance) < plan.source_bytes


@pytest.mark.slow
def test_trained_weights_are_measured_as_in_a_folder(
    hub: Hub, folder: Path, tmp_path: Path
) -> None:
    name = f"{NAME}-qat-q4_0-unquantized"
    tensors = jobs.tensors(folder)
    for key, tensor in tensors.items():
        if key.endswith("mlp.up_proj.weight"):
            steps = mx.random.uniform(
                shape=(*tensor.shape[:-1], tensor.shape[-1] // 32)
            )
            steps = mx.repeat(steps.astype(mx.bfloat16), 32, axis=-1)
            codes = mx.random.randint(-8, 8, tensor.shape).astype(mx.bfloat16)
            tensors[key] = steps * codes
    config = json.loads((folder / "config.json").read_text())
    trained = layouts.save(tmp_path / "trained", config, tensors)
    for file in folder.glob("*token*"):
        (trained / file.name).write_bytes(file.read_bytes())
    hub.add(name, trained)
    source = remote(name)
    trusted = plan_source(source, Wishes(), name, measure=False)
    plan = plan_source(source, Wishes(), name)
    on_grid = [tensor.name for tensor in plan.tensors if tensor.grid]
    assert on_grid and all("up_proj" in name for name in on_grid)
    assert len(on_grid) < sum(tensor.grid is not None for tensor in trusted.tensors)
    convert(source, tmp_path / "out", name, recipe="4bit")
    jobs.convert(trained, tmp_path / "local", name=name)
    assert made(tmp_path / "out") == made(tmp_path / "local")


@pytest.mark.parametrize("same", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_stored_head_is_compared(
    same: bool, hub: Hub, folder: Path, tmp_path: Path
) -> None:
    tensors = jobs.tensors(folder)
    table = tensors["model.language_model.embed_tokens.weight"]
    tensors["lm_head.weight"] = table if same else table * 2
    config = json.loads((folder / "config.json").read_text())
    stored = layouts.save(tmp_path / "stored", config, tensors)
    for file in folder.glob("*token*"):
        (stored / file.name).write_bytes(file.read_bytes())
    hub.add("org/head", stored)
    source, out = remote("org/head"), tmp_path / "out"
    if not same:
        with pytest.raises(CheckpointError, match="lm_head.weight .*values differ"):
            convert(source, out, "org/head")
        return
    with pytest.raises(jobs.Stopped):
        convert(source, out, "org/head", advance=jobs.stop_after(3))
    notes: list[str] = []
    convert(source, out, "org/head", note=notes.append)
    assert not [n for n in layouts.names(out) if "lm_head" in n]
    assert [
        note for note in notes if "it has to repeat" in note
    ] == []  # once is enough
