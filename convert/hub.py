"""The Hugging Face Hub: headers without their weights, and uploading a result."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mlx_gemma4.checkpoint.files import StoredTensor
from mlx_gemma4.errors import CheckpointError, ModelNotFoundError
from mlx_gemma4.hub.refusals import first_line, refusal
from mlx_gemma4.hub.resolve import HUB_ID

from .errors import OutputError

T = TypeVar("T")


@dataclass(frozen=True)
class Remote:
    """A checkpoint on the Hub as its headers state it."""

    sources: dict[str, StoredTensor]
    config: dict[str, Any]

    @property
    def nbytes(self) -> int:
        return sum(source.nbytes for source in self.sources.values())


def headers(name: str) -> Remote:
    """What a Hub repository holds, for the price of its headers.

    Raises ModelNotFoundError where it cannot be read, CheckpointError where it holds no
    safetensors.
    """
    match = HUB_ID.fullmatch(name)
    if match is None:
        raise ModelNotFoundError(f"{name!r} is no Hub id.")
    repo, revision = match["repo"], match["revision"]
    from huggingface_hub import HfApi, hf_hub_download

    api = HfApi()
    found = reached(
        lambda: api.get_safetensors_metadata(repo, revision=revision), repo, revision
    )
    file = reached(
        lambda: hf_hub_download(repo, "config.json", revision=revision), repo, revision
    )
    sources = {
        tensor: StoredTensor(tensor, Path(shard), info.dtype, tuple(info.shape))
        for shard, metadata in found.files_metadata.items()
        for tensor, info in metadata.tensors.items()
    }
    return Remote(sources, json.loads(Path(file).read_text(encoding="utf-8")))


def upload(folder: Path, repo: str, private: bool = False) -> str:
    """Puts a finished model on the Hub; returns its address.

    A second upload of the same files sends nothing again. Raises OutputError.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            commit_message="Upload a Gemma 4 conversion for MLX",
        )
    except Exception as error:  # the network stack's own errors differ by release
        raise OutputError(
            f"{folder} could not be uploaded to {repo}: {first_line(error)} Log in "
            "with `hf auth login` and run the same command again."
        ) from None
    return f"https://huggingface.co/{repo}"


def reached(call: Callable[[], T], repo: str, revision: str | None) -> T:
    """`call`, with one clear line for what the Hub refuses."""
    from huggingface_hub import is_offline_mode
    from huggingface_hub.errors import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        NotASafetensorsRepoError,
    )

    try:
        return call()
    except NotASafetensorsRepoError:
        raise CheckpointError(f"{repo} has no safetensors weights.") from None
    except LocalEntryNotFoundError:
        problem = (
            f"{repo} is not here, and the Hub cannot be reached: check the network."
        )
    except EntryNotFoundError as error:
        raise CheckpointError(f"{repo} is incomplete: {first_line(error)}") from None
    except Exception as error:
        problem = refusal(error, repo, revision)
        if problem is None:
            problem = f"{repo} is not here, and the Hub cannot be reached"
            if is_offline_mode():
                problem += ": HF_HUB_OFFLINE is set. Unset it to download."
            else:
                line = first_line(error).rstrip(".")
                problem += f" ({line}): check the network."
    raise ModelNotFoundError(problem)
