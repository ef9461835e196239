"""Where a model's files are: a folder, the built-in demo, one that was converted here,
or the Hugging Face Hub.

A Hub model that is in the local cache is used as it is, without any network call; to
bring it up to date, download it again with `hf download`.
"""

import os
import re
from importlib.resources import files
from pathlib import Path

from ..checkpoint.folders import again, instead_of_model, weight_files
from ..config.assistant import is_assistant
from ..config.ple import Ple
from ..device import shared_limit
from ..errors import CheckpointError, ModelNotFoundError
from ..reading.home import with_home
from ..reading.json_file import read_json
from ..reading.listing import listed
from ..state import data_folder
from .names import DEMO, Variant, best_variant, candidates, is_family, meant, models
from .refusals import first_line

HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>\w[\w./-]*))?", re.ASCII)


def resolve(
    name: str | Path,
    tqdm_class: type | None = None,
    drafter: bool = False,
    ple: Ple = Ple.AUTO,
) -> Path:
    """The local folder of a model, or of a drafter, downloaded if need be.

    name: a folder, "demo", a short name, or a Hub id `org/name`, also
        `org/name@revision`.
    tqdm_class: the progress bar of a download, as tqdm has them; None is tqdm's.
    drafter: what is downloaded has to be one; else it may not.
    ple: where its table of per-layer embeddings will be; a short name stands for what
        fits so.

    Raises ModelNotFoundError, also for a short name whose weights have to be converted
    first, CheckpointError for a folder without config.json, and for what is to be
    downloaded all that `offer` and `download` do.
    """
    if folder := local_folder(name, ple):
        return folder
    variant = best_variant(str(name), shared_limit(), ple)
    if variant is not None and variant.recipe is not None:
        raise ModelNotFoundError(
            f"{variant.name} is not here, and has to be converted from {variant.repo}: "
            f"`gemma4 pull {variant.name}` does it."
        )
    repo = str(name) if variant is None else variant.repo
    return _with_config(_download(repo, tqdm_class, drafter))


def local_folder(name: str | Path, ple: Ple = Ple.AUTO) -> Path | None:
    """The same of a model that needs no download; None of one that does."""
    folder = with_home(name)
    # os.path, since Path's own raise for names that are too long.
    there = os.path.isdir(folder)
    if there and (folder / "config.json").is_file():
        return folder
    if str(name) == DEMO:
        return _with_config(Path(str(files("mlx_gemma4.assets"))) / DEMO)
    if variants := candidates(str(name)):
        return _best_here(variants, ple)
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
    return data_folder() / "models" / variant.name.replace(":", "-")


def _best_here(variants: tuple[Variant, ...], ple: Ple) -> Path | None:
    """Of the first that is here; what does not fit the memory comes last."""
    memory = shared_limit()
    for variant in sorted(variants, key=lambda each: not each.fits(memory, ple)):
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
    short = listed([*models()])
    if is_family(name):
        return (
            f"{name!r} is all of them: name one, {short}. `gemma4 list --all` says "
            "which this machine has room for."
        )
    near = None if "/" in name else meant(name)
    hint = f" Did you mean {near}?" if near else ""
    return (
        f"{name!r} is neither a folder nor a Hub id: give a short name ({short}), the "
        f"path of a model folder, a Hub id such as google/gemma-4-E2B-it, or {DEMO!r}."
        f"{hint}"
    )


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
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    from .offer import NEEDED, NOT_NEEDED

    try:
        found = snapshot_download(
            repo,
            revision=revision,
            allow_patterns=list(NEEDED),
            ignore_patterns=list(NOT_NEEDED),
            local_files_only=True,
        )
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise ModelNotFoundError(
            f"{repo!r} is no Hub id: {first_line(error)}"
        ) from None
    return Path(found) if is_complete(Path(found)) else None


def is_complete(folder: Path) -> bool:
    """Whether a cached snapshot can be loaded; other programs fetch single files."""
    try:
        drafts = is_drafter(folder)
        needed = ("config.json",) if drafts else ("config.json", "tokenizer.json")
        told = all((folder / name).is_file() for name in needed)
        return told and bool(weight_files(folder))
    except CheckpointError:
        return False


def is_drafter(folder: Path) -> bool:
    """Whether `folder` holds a drafter, which speaks the tokens of its model. Raises
    CheckpointError for a config.json that cannot be read."""
    return is_assistant(read_json(folder / "config.json").get("model_type"))


def _download(name: str, tqdm_class: type | None, drafter: bool) -> Path:
    from tqdm.auto import tqdm

    from .download import download
    from .offer import offer

    found = offer(name, drafter=drafter)
    bar = (tqdm_class or tqdm)(
        total=found.to_fetch, unit="B", unit_scale=True, desc=f"Downloading {name}"
    )
    with bar:
        return download(found, bar.update)
