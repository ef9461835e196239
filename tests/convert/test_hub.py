"""Uploading a result to the Hub."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from mlx_gemma4.convert import hub
from mlx_gemma4.convert.errors import OutputError


def test_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    def record(name: str) -> Any:
        def call(self: object, *arguments: object, **options: Any) -> None:
            calls.append((name, {"repo_id": arguments[0]} if arguments else options))

        return call

    for name in ("create_repo", "upload_folder"):
        monkeypatch.setattr(huggingface_hub.HfApi, name, record(name))
    assert hub.upload(tmp_path, "me/mine") == "https://huggingface.co/me/mine"
    assert [name for name, _ in calls] == ["create_repo", "upload_folder"]
    assert calls[1][1]["folder_path"] == tmp_path
    assert all(options["repo_id"] == "me/mine" for _, options in calls)


def test_upload_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ConnectionError("the reason")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", fail)
    with pytest.raises(OutputError, match="could not be uploaded .*same command"):
        hub.upload(tmp_path, "me/mine")
