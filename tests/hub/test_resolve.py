"""Names of models. The Hub is played by a small server on this machine."""

import json
import socket
from pathlib import Path

import huggingface_hub
import pytest
import tiny
from hub_client import demo
from hub_server import Hub
from places import DEMO

from mlx_gemma4 import load
from mlx_gemma4.errors import CheckpointError, ModelNotFoundError
from mlx_gemma4.hub.resolve import local_folder, resolve

SIZES = {name: len(data) for name, data in demo(README__md=None).items()}
OTHERS = ["original/model.safetensors", "pytorch_model.bin", "model.gguf", "run.py"]


class Bar:
    """What tqdm has of a progress bar."""

    made: "Bar"

    def __init__(self, total: int, **_: object) -> None:
        Bar.made = self
        self.total, self.done = total, 0

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True

    def update(self, count: int) -> None:
        self.done += count


def test_a_download_and_then_the_cache(hub: Hub) -> None:
    """Only the files that are needed come; the second time nothing is asked."""
    hub.add("org/demo", demo() | dict.fromkeys(OTHERS, b"?"))
    folder = resolve("org/demo", Bar)
    assert {file.name for file in folder.iterdir()} == set(SIZES)
    assert Bar.made.done == Bar.made.total > 0 and Bar.made.ended
    asked = len(hub.requests)
    assert resolve("org/demo") == resolve(f"org/demo@{folder.name}") == folder
    assert len(hub.requests) == asked


def test_we_and_other_programs_find_each_others_files(hub: Hub) -> None:
    """One file came by the Hub library; it then finds all in its place."""
    hub.add("org/demo", demo())
    huggingface_hub.snapshot_download("org/demo", allow_patterns="tokenizer.json")
    assert local_folder("org/demo") is None
    folder = resolve("org/demo", Bar)
    assert dict(hub.sent) == SIZES
    found = huggingface_hub.snapshot_download(
        "org/demo", ignore_patterns="README.md", local_files_only=True
    )
    assert Path(found) == folder
    (folder / "model.safetensors").unlink()  # a cache that was cleared in part
    assert local_folder("org/demo") is None and resolve("org/demo", Bar) == folder


def test_from_python(hub: Hub) -> None:
    """There is no question, but what does not load is refused before its weights."""
    other = json.dumps({"model_type": "gemma3"}).encode()
    hub.add("org/other", demo(config__json=other))
    with pytest.raises(CheckpointError, match="org/other: .* model_type 'gemma3'"):
        load("org/other", tqdm_class=Bar)
    assert not hub.sent["model.safetensors"]
    hub.add("org/demo", DEMO)
    _, processor = load("org/demo", tqdm_class=Bar)
    assert processor.template is not None


def test_no_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:  # a port nobody listens on
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", nobody)
        with pytest.raises(ModelNotFoundError, match="check the network"):
            resolve("org/tiny")


def test_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="has no config.json"):
        resolve(tmp_path)
    folder = tmp_path / "org" / "name"
    tiny.write_checkpoint(folder, "E2B")
    assert resolve(folder) == resolve(str(folder)) == folder
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name") == Path("org/name")  # before any Hub id
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/org/name") == folder
    with pytest.raises(ModelNotFoundError, match="is a file: give the folder"):
        resolve(folder / "config.json")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "gemma",
        "./org/name",
        "../name",
        "~/no/name",
        "/no/name",
        "a/b/c",
        "a/b@",
        "é/b",
    ],
)
def test_names_that_cannot_be_a_model(name: str) -> None:
    with pytest.raises((ModelNotFoundError, CheckpointError)) as caught:
        resolve(name)
    assert "config.json" in str(caught.value) if not name else name in str(caught.value)


def test_the_demo(
    demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve("demo") == demo_folder
    (tmp_path / "demo").mkdir()  # any folder of that name is not yet a model
    assert resolve("demo") == demo_folder
    tiny.write_checkpoint(tmp_path / "demo", "E2B")
    assert resolve("demo") == Path("demo")


def test_what_needs_no_download(tmp_path: Path, demo_folder: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert local_folder(str(tmp_path)) == tmp_path
    assert local_folder("demo") == demo_folder
    assert local_folder("org/never-downloaded") is None


@pytest.mark.parametrize("name", ["no/such/folder", "../x/y"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ModelNotFoundError):
        local_folder(name)
