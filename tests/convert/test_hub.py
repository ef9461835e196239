"""The Hub's part: plans from headers, refusals in one line, uploading."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import jobs
import pytest
from huggingface_hub import errors as refusals

from mlx_gemma4.checkpoint.files import read_tensors
from mlx_gemma4.convert import hub
from mlx_gemma4.convert.errors import OutputError
from mlx_gemma4.convert.output import describe
from mlx_gemma4.convert.survey import Wishes, make_plan
from mlx_gemma4.errors import CheckpointError, ModelNotFoundError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return jobs.source(tmp_path / "hub", "E2B", shards=2)


def metadata(folder: Path) -> Any:
    """What `get_safetensors_metadata` gives for a repository with these files."""
    files: dict[str, dict[str, Any]] = {}
    for name, tensor in read_tensors(folder).items():
        info = SimpleNamespace(dtype=tensor.dtype, shape=list(tensor.shape))
        files.setdefault(tensor.file.name, {})[name] = info
    return SimpleNamespace(
        files_metadata={f: SimpleNamespace(tensors=t) for f, t in files.items()}
    )


def refused(kind: str) -> Exception:
    """Made without its response, whose type differs between the Hub's releases."""
    types: dict[str, type[Exception]] = {
        "gated": refusals.GatedRepoError,
        "absent": refusals.RepositoryNotFoundError,
        "revision": refusals.RevisionNotFoundError,
        "offline": refusals.OfflineModeIsEnabled,
        "no network": ConnectionError,
    }
    error = types[kind].__new__(types[kind])
    Exception.__init__(error, "the reason")
    return error


def test_plan_without_weights(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []

    def get(self: object, repo: str, revision: str | None = None) -> Any:
        asked.append((repo, revision))
        return metadata(source)

    monkeypatch.setattr(huggingface_hub.HfApi, "get_safetensors_metadata", get)
    monkeypatch.setattr(
        huggingface_hub,
        "hf_hub_download",
        lambda repo, name, revision=None: str(source / name),
    )
    remote = hub.headers("org/tiny@v1")
    plan = make_plan(remote.sources, remote.config, Wishes(), "org/tiny")
    local = jobs.plan(source)
    assert asked == [("org/tiny", "v1")]
    assert [*map(describe, plan.table)] == [*map(describe, local.table)]
    assert remote.nbytes == plan.source_bytes


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("gated", "accept its licence at https://huggingface.co/org/x"),
        ("absent", "not on the Hub"),
        ("revision", "no revision 'v9'"),
        ("no network", "check the network"),
        ("offline", "HF_HUB_OFFLINE"),
    ],
)
def test_refusals(kind: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def get(*arguments: object, **options: object) -> None:
        raise refused(kind)

    monkeypatch.setattr(huggingface_hub.HfApi, "get_safetensors_metadata", get)
    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: kind == "offline")
    with pytest.raises(ModelNotFoundError) as caught:
        hub.headers("org/x@v9")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_repository_without_safetensors(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(*arguments: object, **options: object) -> None:
        raise refusals.NotASafetensorsRepoError("none")

    monkeypatch.setattr(huggingface_hub.HfApi, "get_safetensors_metadata", get)
    with pytest.raises(CheckpointError, match="no safetensors"):
        hub.headers("org/x")


def test_upload(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    def record(name: str) -> Any:
        def call(self: object, *arguments: object, **options: Any) -> None:
            calls.append((name, {"repo_id": arguments[0]} if arguments else options))

        return call

    for name in ("create_repo", "upload_folder"):
        monkeypatch.setattr(huggingface_hub.HfApi, name, record(name))
    assert hub.upload(source, "me/mine") == "https://huggingface.co/me/mine"
    assert [name for name, _ in calls] == ["create_repo", "upload_folder"]
    assert calls[1][1]["folder_path"] == source
    assert all(options["repo_id"] == "me/mine" for _, options in calls)


def test_upload_that_fails(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise refused("no network")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", fail)
    with pytest.raises(OutputError, match="could not be uploaded .*same command"):
        hub.upload(source, "me/mine")


def test_config_of_the_repository(source: Path) -> None:
    config = json.loads((source / "config.json").read_text())
    remote = hub.Remote(read_tensors(source), config)
    assert remote.nbytes == jobs.plan(source).source_bytes
