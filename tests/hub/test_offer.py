"""What is known of a model before a weight of it is fetched, and what is refused."""

import json
from typing import Any

import hub_server
import pytest
from hub_client import demo
from hub_server import Contents, Hollow, Hub
from places import DEMO

from mlx_gemma4.checkpoint.files import read_tensors
from mlx_gemma4.checkpoint.plan import footprint, plan_load, read_headers
from mlx_gemma4.config import Config
from mlx_gemma4.errors import CheckpointError, DiskFullError, ModelNotFoundError
from mlx_gemma4.hub.offer import offer

WEIGHTS = "model.safetensors"
HEADER = min(tensor.offset for tensor in read_tensors(DEMO).values())


def config(**changed: Any) -> bytes:
    return json.dumps(json.loads((DEMO / "config.json").read_text()) | changed).encode()


def test_what_it_says(hub: Hub) -> None:
    repo = hub.add("org/demo", demo(pytorch_model__bin=b"?"), license="gemma")
    found = offer("org/demo", to_chat=True)
    assert found.commit == repo.main and found.revision == "main"
    wanted = set(demo()) - {"README.md"}
    assert {file.name for file in found.files} == wanted
    assert found.nbytes == sum(len(data) for data in demo(README__md=None).values())
    assert found.to_fetch == found.nbytes - hub.fetched()
    assert found.memory == footprint(plan_load(*read_headers(DEMO))).nbytes
    assert found.licence == "gemma"
    assert isinstance(found.config, Config) and found.config.audio_config is not None
    assert hub.sent[WEIGHTS] == HEADER  # no more of the weights
    asked = len(hub.requests)
    assert offer("org/demo@main").to_fetch == found.to_fetch
    assert len(hub.requests) == asked + 1  # who knows a commit reads nothing again


def test_a_revision(hub: Hub) -> None:
    repo = hub.add("org/demo", demo())
    first = repo.main
    repo.commit(demo(config__json=config(model_type="gemma3")))
    assert offer(f"org/demo@{first}").commit == first
    with pytest.raises(CheckpointError, match="gemma3"):
        offer("org/demo")


REFUSED: dict[str, tuple[dict[str, Contents | None], type[Exception], str]] = {
    "other": (
        {"config__json": config(model_type="gemma3")},
        CheckpointError,
        "model_type 'gemma3'",
    ),
    "base": ({"chat_template__jinja": None}, CheckpointError, "org/x has no chat temp"),
    "gguf": (
        {"model__safetensors": None, "a__gguf": b"?"},
        CheckpointError,
        "org/x has weights only as a.gguf, llama.cpp's format",
    ),
    "no config": ({"config__json": None}, CheckpointError, "org/x has no config.json"),
    "no tokenizer": ({"tokenizer__json": None}, CheckpointError, "no tokenizer.json"),
    "shards": (
        {"model-1-of-2__safetensors": b"?", "model__safetensors": None},
        CheckpointError,
        "org/x lacks model-00002-of-00002.safetensors",
    ),
    "large": (
        {"model__safetensors": Hollow(10**15)},
        MemoryError,
        "of org/x take 1000000 GB, but a model may use at most",
    ),
}


def refused(name: str, hub: Hub, kind: type[Exception], text: str) -> None:
    """Before a weight is fetched."""
    with pytest.raises(kind, match=text):
        offer(name, to_chat=True)
    assert not sum(n for file, n in hub.sent.items() if file.endswith(".safetensors"))


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_run_here(case: str, hub: Hub) -> None:
    changed, kind, text = REFUSED[case]
    hub.add("org/x", demo(**changed))
    refused("org/x", hub, kind, text)


def test_what_needs_no_template(hub: Hub) -> None:
    hub.add("org/base", demo(chat_template__jinja=None))
    assert offer("org/base").config.text_config


def test_what_the_hub_refuses(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/gated", demo(), gated=True)
    hub.add("org/down", demo(), refusal=(503, ""))
    hub.add("org/demo", demo())
    for name, text in {
        "org/gated": "org/gated is gated: accept its licence at https://hugg",
        "org/down": r"the Hub cannot be reached \(.*503.*\): check the network",
        "org/absent": "not on the Hub, or it is private: check the spelling",
        "org/demo@old": "org/demo has no revision 'old' on the Hub",
        "org/a..b": "'org/a..b' is no Hub id",
    }.items():
        refused(name, hub, ModelNotFoundError, text)
    monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
    assert offer("org/gated").repo == "org/gated"


def test_without_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused("org/demo", hub, ModelNotFoundError, "HF_HUB_OFFLINE is set: unset it")
    assert not hub.requests


def test_a_disk_that_is_too_small(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has come already needs no more room."""
    hub.add("org/demo", demo())
    found = offer("org/demo")
    monkeypatch.setattr("mlx_gemma4.hub.offer.free_space", lambda _: found.to_fetch - 1)
    with pytest.raises(DiskFullError, match=r"10.4 MB to fetch .* do not fit into the"):
        offer("org/demo")
    monkeypatch.setattr("mlx_gemma4.hub.offer.free_space", lambda _: found.to_fetch)
    assert offer("org/demo").to_fetch == found.to_fetch


def test_a_memory_that_is_too_small(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU weights take more than in their files."""
    hub.add("org/demo", demo())
    found = offer("org/demo")
    assert found.memory > (DEMO / WEIGHTS).stat().st_size
    least = found.memory - found.table  # which may stay on disk
    monkeypatch.setattr("mlx_gemma4.hub.offer.shared_limit", lambda: least)
    assert offer("org/demo").table == found.table > 0
    monkeypatch.setattr("mlx_gemma4.hub.offer.shared_limit", lambda: least - 1)
    with pytest.raises(MemoryError, match="weights of org/demo take .* MB, but"):
        offer("org/demo")


def test_weights_of_another_kind(hub: Hub) -> None:
    """Their headers tell, and nothing behind them is asked for."""
    header = {"a.qweight": {"dtype": "I32", "shape": [2], "data_offsets": [0, 8]}}
    head = json.dumps(header).encode()
    data = len(head).to_bytes(8, "little") + head
    hub.add("org/gptq", demo(model__safetensors=data + bytes(8)))
    with pytest.raises(CheckpointError, match="AWQ or GPTQ has packed"):
        offer("org/gptq")
    assert hub.sent[WEIGHTS] == len(data)


@pytest.mark.parametrize("length", [2**60, 200])
def test_a_header_that_is_none(length: int, hub: Hub) -> None:
    data = length.to_bytes(8, "little") + bytes(100)
    hub.add("org/demo", demo(model__safetensors=data))
    with pytest.raises(CheckpointError, match="truncated or no safetensors"):
        offer("org/demo")


def test_names_that_lead_elsewhere(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer of a server names a file outside the cache."""
    hub.add("org/demo", demo() | {"../../outside.json": b"{}"})
    assert "../../outside.json" not in [file.name for file in offer("org/demo").files]
    for name in ("/etc/passwd", "..", "A" * 40, ""):
        monkeypatch.setattr(hub_server, "identity", lambda *_, name=name: name)
        with pytest.raises(ModelNotFoundError, match="answer makes no sense"):
            offer("org/demo")


@pytest.mark.parametrize("name", ["..", ".", "", "\0.json", "\x1b[2J.json", "x" * 256])
def test_names_that_no_file_has(name: str, hub: Hub) -> None:
    hub.add("org/demo", demo() | {name: b"{}"})
    assert name not in [file.name for file in offer("org/demo").files]


@pytest.mark.parametrize("stated", [-1, None, "many"])
def test_sizes_that_are_none(
    stated: object, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = hub_server.sibling
    monkeypatch.setattr(
        hub_server, "sibling", lambda *file: told(*file) | {"size": stated}
    )
    hub.add("org/demo", demo())
    with pytest.raises(ModelNotFoundError, match="answer makes no sense"):
        offer("org/demo")
    assert not hub.fetched()


def test_a_configuration_of_terabytes(hub: Hub) -> None:
    hub.add("org/demo", demo(config__json=Hollow(10**12)))
    refused(
        "org/demo",
        hub,
        CheckpointError,
        r"config\.json of org/demo has 1000 GB: it is something",
    )


def test_a_header_that_came_damaged(hub: Hub) -> None:
    """The next try begins anew."""
    hub.add("org/demo", demo())
    found = offer("org/demo")
    (weights,) = (file for file in found.files if file.name == WEIGHTS)
    length = found.cache.partial(weights).stat().st_size
    found.cache.partial(weights).write_bytes(
        (length - 8).to_bytes(8, "little") + bytes(length - 8)
    )
    with pytest.raises(CheckpointError, match="its header is not valid JSON"):
        offer("org/demo")
    assert offer("org/demo").to_fetch == found.to_fetch
