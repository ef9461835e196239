"""Where a model's files are: a folder, the built-in demo, one that was converted here,
or the Hugging Face Hub.

A Hub model that is in the local cache is used as it is, without any network call; to
bring it up to date, download it again with `hf download`.
"""

import os
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..checkpoint.folders import again, instead_of_model, weight_files
from ..device import memory_limit
from ..errors import CheckpointError, ModelNotFoundError
from ..reading.home import with_home
from ..reading.listing import listed
from ..state import data_folder
from .names import DEMO, Variant, best_variant, candidates, meant, models

HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?", re.ASCII)
NEEDED = ["*.json", "*.safetensors", "*.jinja", "tokenizer*"]
# Folders hold other formats of the same weights; so does the consolidated file.
NOT_NEEDED = ["*/*", "consolidated*"]


def resolve(name: str | Path, tqdm_class: type | None = None) -> Path:
    """The local folder of a model, downloaded if need be.

    name: a folder, "demo", a short name, or a Hub id `org/name`, also
        `org/name@revision`.
    tqdm_class: the progress bar of a download; None is the Hub library's own.

    Raises ModelNotFoundError, also for a short name whose weights have to be converted
    first, and CheckpointError for a folder without config.json.
    """
    if folder := local_folder(name):
        return folder
    variant = best_variant(str(name), memory_limit())
    if variant is not None and variant.recipe is not None:
        raise ModelNotFoundError(
            f"{variant.name} is not here, and has to be converted from {variant.repo}: "
            f"`gemma4 pull {variant.name}` does it."
        )
    repo = str(name) if variant is None else variant.repo
    return _with_config(_download(repo, tqdm_class))


def local_folder(name: str | Path) -> Path | None:
    """The same of a model that needs no download; None of one that does."""
    folder = with_home(name)
    # os.path, since Path's own raise for names that are too long.
    there = os.path.isdir(folder)
    if there and (folder / "config.json").is_file():
        return folder
    if str(name) == DEMO:
        return _with_config(Path(str(files("mlx_gemma4.assets"))) / DEMO)
    if variants := candidates(str(name)):
        return _best_here(variants)
    if there:
        return _with_config(folder)
    if os.path.exists(folder):
        raise ModelNotFoundError(f"{folder} is a file: give the folder it lies in.")
    match = HUB_ID.fullmatch(str(name))
    if match is None or ".." in str(name) or str(name).startswith((".", "~")):
        raise ModelNotFoundError(_no_model(str(name)))
    return _cached(match["repo"], match["revision"])


def converted_folder(variant: Variant) -> Path:
    """Where a variant lies, or would lie, that is converted here."""
    return models_folder() / variant.name.replace(":", "-")


def models_folder() -> Path:
    return data_folder() / "models"


def _best_here(variants: tuple[Variant, ...]) -> Path | None:
    """Of the first that is here; what does not fit the memory comes last."""
    memory = memory_limit()
    for variant in sorted(variants, key=lambda each: each.needs > memory):
        if folder := variant_folder(variant):
            return folder
    return None


def variant_folder(variant: Variant) -> Path | None:
    """The folder of a variant that is here, whole."""
    if variant.recipe is None:
        return _cached(variant.repo, None)
    folder = converted_folder(variant)
    return folder if (folder / "config.json").is_file() else None


def _no_model(name: str) -> str:
    short = listed([each.name for each in models().values() if each.instead is None])
    near = None if "/" in name else meant(name)
    hint = f" Did you mean {near}?" if near else ""
    return (
        f"{name!r} is neither a folder nor a Hub id: give a short name ({short}), the "
        f"path of a model folder, a Hub id such as google/gemma-4-E2B-it, or {DEMO!r}."
        f"{hint}"
    )


def beside(repo: str) -> str:
    """What to look at where a Hub id may be a mistyped path; empty if it is none."""
    owner, _, name = repo.partition("/")
    folder = Path(owner)
    if not folder.is_dir():
        return ""
    models = sorted(path.parent.name for path in folder.glob("*/config.json"))
    held = f"models are {listed(models)}" if models else "it holds no model"
    return f" Here, {owner} is a folder without {name}; {held}."


def _with_config(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            instead_of_model(folder)
            or f"{folder} has no config.json: it is not a model folder, or incomplete. "
            f"Models are downloaded by their name, or with {again(folder)}."
        )
    return folder


def _cached(repo: str, revision: str | None) -> Path | None:
    """The snapshot in the Hub's cache, if it can be loaded."""
    # Imported here: it costs a quarter of a second, and most models are folders.
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = _snapshot(repo, revision, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise ModelNotFoundError(
            f"{repo!r} is no Hub id: {first_line(error)}"
        ) from None
    return folder if is_complete(folder) else None


def _snapshot(repo: str, revision: str | None, **how: Any) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            repo,
            revision=revision,
            allow_patterns=NEEDED,
            ignore_patterns=NOT_NEEDED,
            **how,
        )
    )


def is_complete(folder: Path) -> bool:
    """Whether a cached snapshot can be loaded; other programs fetch single files."""
    try:
        return (folder / "config.json").is_file() and bool(weight_files(folder))
    except CheckpointError:
        return False


def _download(name: str, tqdm_class: type | None) -> Path:
    from huggingface_hub.errors import LocalEntryNotFoundError

    repo, _, revision = name.partition("@")
    try:
        return _snapshot(repo, revision or None, tqdm_class=tqdm_class)
    except LocalEntryNotFoundError:
        problem = _unreachable(repo)
    except Exception as error:
        # The network stack's own errors differ from release to release.
        problem = refusal(error, repo, revision) or (
            f"{repo} could not be downloaded: {first_line(error)} Try again."
        )
    raise ModelNotFoundError(problem)


def refusal(error: Exception, repo: str, revision: str | None) -> str | None:
    """What the Hub refuses by `error`, and the remedy; None if it is no refusal."""
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):  # a kind of RepositoryNotFoundError
        return (
            f"{repo} is gated: accept its licence at https://huggingface.co/{repo} and "
            "log in with `hf auth login`."
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{repo} is no folder here and not on the Hub, or it is private: check the "
            f"spelling, or log in with `hf auth login`.{beside(repo)}"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{repo} has no revision {revision!r} on the Hub."
    return None


def _unreachable(repo: str) -> str:
    from huggingface_hub import is_offline_mode

    start = f"{repo} is no folder here and not complete in the local Hub cache"
    if is_offline_mode():
        return (
            f"{start}, and HF_HUB_OFFLINE is set: unset it to download.{beside(repo)}"
        )
    return f"{start}, and the Hub cannot be reached: check the network.{beside(repo)}"


def first_line(error: Exception) -> str:
    """What an error says, in one line that ends in a full stop."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".") + "."
