"""What a model on the Hub is and costs, known before a weight of it is fetched."""

import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ..chat.template import NO_TEMPLATE, ChatTemplate
from ..checkpoint.files import LENGTH, MAX_HEADER, read_header
from ..checkpoint.folders import (
    INDEX,
    LONGEST_NAME,
    instead_of_model,
    weight_files,
)
from ..checkpoint.plan import (
    Footprint,
    footprint,
    plan_assistant,
    plan_load,
    read_headers,
)
from ..config import AssistantConfig, Config, ConfigWarning
from ..config.ple import Ple
from ..device import shared_limit
from ..errors import CheckpointError, DiskFullError, ModelNotFoundError
from ..reading.sizes import free_space, size
from .cache import Cache, HubFile, distinct, repository_in
from .refusals import why
from .transfer import Transfer

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

NEEDED = ("*.json", "*.safetensors", "*.jinja", "tokenizer*")
# Folders hold other formats of the same weights; so does the consolidated file.
NOT_NEEDED = ("*/*", "consolidated*")
# What tells whether a model can be used at all.
TELLING = ("config.json", "chat_template.*", "tokenizer_config.json", INDEX)
TIMEOUT = 10.0  # seconds
MAX_SMALL = 200_000_000  # bytes of what is no weights; a tokenizer has 30 million
NONSENSE = "The Hub's answer makes no sense: try again, or update huggingface-hub."
DIGEST = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")  # it becomes the name of a file


@dataclass(frozen=True)
class Offer:
    """A model that can be fetched.

    revision: as it was asked for, a branch, tag or commit.
    files: all that are needed, those that are here already included.
    memory: bytes that its weights take here; table: what of these may stay on disk.
    free: bytes that are free on the disk they go to.
    licence: as the Hub names it, "apache-2.0".
    """

    repo: str
    revision: str
    files: Sequence[HubFile]
    config: Config | AssistantConfig
    memory: int
    free: int
    licence: str | None
    cache: Cache
    table: int = 0

    @property
    def commit(self) -> str:
        return self.cache.commit

    @property
    def nbytes(self) -> int:
        """Of all files."""
        return sum(file.size for file in distinct(self.files))

    @property
    def to_fetch(self) -> int:
        """The bytes that are not here yet."""
        return sum(map(self.cache.lacking, distinct(self.files)))


def offer(
    name: str, to_chat: bool = False, drafter: bool = False, ple: Ple = Ple.AUTO
) -> Offer:
    """What `name`, a Hub id `org/name` or `org/name@revision`, is and costs.

    to_chat: refuse what has no chat template. drafter: it has to be one; else it may
        not. ple: where its table of per-layer embeddings will be.

    It reads what the repository says of itself and the headers of its weights.

    Raises ModelNotFoundError, CheckpointError for what does not run here, MemoryError
    and DiskFullError for what does not fit.
    """
    repo, _, revision = name.partition("@")
    revision = revision or "main"
    about = ask_hub(repo, revision)
    cache = Cache.of(repo, digest_of(about.sha))
    files = [f for f in top_files(about) if _any(f.name, NEEDED, NOT_NEEDED)]
    transfer = Transfer(repo, cache, lambda _: None, lambda _: None)
    for file in files:
        if _any(file.name, TELLING):
            check_small(repo, file)
            transfer.fetch(file)
            cache.link(file)
    with _stand_in(about, cache) as folder:
        config = _config(folder, drafter)
        weights = {file.name for file in weight_files(folder)}
        heavy = [file for file in files if file.name in weights]
        if isinstance(config, Config):
            _check_text(folder, name, to_chat)
        least = sum(file.size for file in heavy) - _largest_table(config)
        _check_memory(repo, least)  # before any header
        for file in heavy:
            _fetch_header(file, folder / file.name, transfer)
        memory = _memory(folder, config)
    _check_memory(repo, ple.least(memory.table, memory.nbytes))
    free, licence = free_space(cache.folder), licence_of(about)
    found = Offer(
        *(repo, revision, files, config, memory.nbytes, free, licence, cache),
        table=memory.table,
    )
    _check_disk(found)
    return found


def ask_hub(repo: str, revision: str) -> "ModelInfo":
    from huggingface_hub import HfApi

    try:
        return HfApi().model_info(
            repo, revision=revision, files_metadata=True, timeout=TIMEOUT
        )
    except Exception as error:  # the network stack's own differ by release
        raise ModelNotFoundError(why(error, repo, revision)) from None


def top_files(about: "ModelInfo") -> Iterator[HubFile]:
    """Those that lie at the top, and whose names files can have here."""
    for each in about.siblings or ():
        if _can_be_named(each.rfilename):
            digest = digest_of(each.lfs.sha256 if each.lfs else each.blob_id)
            yield HubFile(each.rfilename, size_of(each.size), digest)


def _can_be_named(name: str) -> bool:
    plain = "/" not in name and name.isprintable() and name.strip(".")
    return bool(plain) and len(name.encode()) <= LONGEST_NAME


def digest_of(stated: str | None) -> str:
    if stated is None or not DIGEST.fullmatch(stated):
        raise ModelNotFoundError(NONSENSE)
    return stated


def size_of(stated: int | None) -> int:
    if not isinstance(stated, int) or stated < 0:
        raise ModelNotFoundError(NONSENSE)
    return stated


def check_small(repo: str, file: HubFile) -> None:
    """Of a file that is fetched before anybody is asked."""
    if file.size > MAX_SMALL:
        raise CheckpointError(
            f"{file.name} of {repo} has {size(file.size)}: it is something else."
        )


def _any(name: str, patterns: Sequence[str], but: Sequence[str] = ()) -> bool:
    passed = any(fnmatch(name, pattern) for pattern in but)
    return not passed and any(fnmatch(name, pattern) for pattern in patterns)


@contextmanager
def _stand_in(about: "ModelInfo", cache: Cache) -> Iterator[Path]:
    """A folder as the model's will be, in which all but what tells of it is empty.

    What is wrong with it is said of the repository.
    """
    with TemporaryDirectory() as made:
        folder = Path(made)
        for file in top_files(about):
            there = cache.snapshot / file.name
            if _any(file.name, TELLING) and there.exists():
                shutil.copyfile(there, folder / file.name)
            else:
                (folder / file.name).touch()
        try:
            yield folder
        except CheckpointError as error:
            repo = repository_in(cache.folder)
            text = str(error).replace(made, repo)
            raise CheckpointError(text if repo in text else f"{repo}: {text}") from None


def _check_text(folder: Path, name: str, to_chat: bool) -> None:
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(f"{folder} has no tokenizer.json: it cannot be run.")
    template = ChatTemplate.from_folder(folder, "<bos>")
    if to_chat and template is None:
        raise CheckpointError(NO_TEMPLATE.format(name=name))


def _config(folder: Path, drafter: bool) -> Config | AssistantConfig:
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            instead_of_model(folder)
            or f"{folder} has no config.json: it is no model that can be run."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConfigWarning)  # said when it is loaded
        kind = AssistantConfig if drafter else Config
        return kind.from_file(folder / "config.json")


def _fetch_header(file: HubFile, stand_in: Path, transfer: Transfer) -> None:
    """Gives the file that stands in its header and its size, and no weights."""
    upto = LENGTH
    transfer.fetch(file, upto)
    there = transfer.cache.place(file)
    with there.open("rb") as stream, stand_in.open("wb") as hollow:
        hollow.write(stated := stream.read(LENGTH))
        upto += int.from_bytes(stated, "little")
        if upto <= min(file.size, MAX_HEADER):
            transfer.fetch(file, upto)
            hollow.write(stream.read(upto - LENGTH))
        hollow.truncate(file.size)
    try:
        read_header(stand_in)
    except CheckpointError:
        transfer.cache.partial(file).unlink(
            missing_ok=True
        )  # the next try is a new one
        raise


def _largest_table(config: Config | AssistantConfig) -> int:
    """Bytes of a table of per-layer embeddings, which may stay on disk, in float32."""
    if isinstance(config, AssistantConfig):
        return 0
    text = config.text_config
    width = text.num_hidden_layers * text.hidden_size_per_layer_input
    return 4 * text.vocab_size_per_layer_input * width


def _memory(folder: Path, config: Config | AssistantConfig) -> Footprint:
    """What the weights will take. Raises CheckpointError where none load."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all is said when it is loaded
        if isinstance(config, AssistantConfig):
            return footprint(plan_assistant(folder))
        return footprint(plan_load(*read_headers(folder, config)))


def licence_of(about: "ModelInfo") -> str | None:
    tags = [tag.partition(":") for tag in about.tags or ()]
    return next((value for key, _, value in tags if key == "license"), None)


def _check_memory(repo: str, needed: int) -> None:
    limit = shared_limit()
    if needed > limit:
        raise MemoryError(
            f"The weights of {repo} take {size(needed)}, but a model may use at most "
            f"{size(limit)} here."
        )


def _check_disk(found: Offer) -> None:
    if found.to_fetch > found.free:
        raise DiskFullError(
            f"The disk is too small: {size(found.to_fetch)} to fetch of {found.repo} "
            f"do not fit into the {size(found.free)} that are free at "
            f"{found.cache.folder.parent}."
        )
