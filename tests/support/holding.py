"""Models on this machine, as programs leave them: the Hub's cache, and our own."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_assistants

from mlx_gemma4.hub.names import Variant
from mlx_gemma4.hub.resolve import converted_folder


@dataclass(frozen=True)
class Shelf:
    """A Hub's cache, and folders of state and data that are empty at first."""

    cache: Path
    model: Path  # a small one that can be loaded
    environ: dict[str, str]

    @classmethod
    def make(cls, folder: Path, monkeypatch: pytest.MonkeyPatch) -> "Shelf":
        cache, model = folder / "hub", folder / "tiny"
        environ = {
            "HF_HUB_CACHE": str(cache),
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_DATA_HOME": str(folder / "data"),
        }
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        # Read when the Hub's library is imported.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        cache.mkdir()
        tiny.write_checkpoint(model, "E2B", shards=2, tokenizer=True)
        return cls(cache, model, environ)

    def fetched(
        self,
        repo: str,
        revision: str = "main",
        lacks: tuple[str, ...] = (),
        source: Path | None = None,
    ) -> Path:
        """The snapshot of a repository in the cache; its root is two above. source:
        where its files are from, or the small model."""
        root = self.cache / f"models--{repo.replace('/', '--')}"
        commit = hashlib.sha1(revision.encode()).hexdigest()
        snapshot, blobs = root / "snapshots" / commit, root / "blobs"
        reference = root / "refs" / revision
        for folder in (snapshot, blobs, reference.parent):
            folder.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit)
        for file in (source or self.model).iterdir():
            if file.name not in lacks:
                shutil.copy(file, blobs / file.name)
                (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
        return snapshot

    def drafter(self, **text: Any) -> Path:
        """A folder with a drafter for the small model; `text` overrides its own."""
        config = json.loads((self.model / "config.json").read_text())
        return tiny_assistants.write(
            self.model.parent / "drafter",
            tiny_assistants.config_dict(config, ordered=False, **text),
            seed=0,
        )

    def converted(self, variant: Variant) -> Path:
        return Path(shutil.copytree(self.model, converted_folder(variant)))

    @property
    def nbytes(self) -> int:
        return sum(file.stat().st_size for file in self.model.iterdir())
