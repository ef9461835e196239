"""Loading: a folder or a Hub id becomes a model and its processor.

Tensors are read, converted and checked in groups, so that no second copy of the
weights exists at any time, and then never touched again.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx

from ..assistant.drafter import Drafter
from ..assistant.model import Assistant
from ..chat.template import NO_TEMPLATE
from ..config import Config, TextConfig
from ..config.ple import Ple
from ..device import Room, memory_limit
from ..errors import CheckpointError
from ..hub.drafters import drafter_beside
from ..hub.resolve import resolve
from ..kernels.choice import Conditions, is_auto, use_remembered
from ..model import Gemma4
from ..prompt.processor import Processor
from ..reading.sizes import size
from ..sharding.parts import Part
from ..sharding.plan import plan_shards
from .fill import fill, leave_table
from .plan import (
    DTYPES,
    AssistantPlan,
    Footprint,
    LoadPlan,
    footprint,
    own_dtype,
    plan_assistant,
    plan_load,
    read_headers,
)

OFF = "off"  # as a drafter: none


class DrafterWarning(UserWarning):
    """A drafter lies with the model, but cannot be used."""


class KernelsWarning(UserWarning):
    """`GEMMA4_KERNELS=auto`, and no kernel was checked with such a model here."""


def load(
    path_or_repo: str | Path,
    dtype: mx.Dtype | None = None,
    tqdm_class: type | None = None,
    draft: str | Path | None = None,
    ple: Ple | str = Ple.AUTO,
) -> tuple[Gemma4, Processor]:
    """A model with its weights, and what turns messages into its tokens.

    path_or_repo: a folder, a Hub id (`org/name`, `org/name@revision`), a short name
        ("e4b", "e4b:qat") or "demo".
    dtype: of all weights that are not quantised, and of the scales and biases of those
        that are. None takes that of the embeddings in the files on a GPU, and float32
        on the CPU, where MLX computes bfloat16 coarsely or not at all.
    tqdm_class: progress bar of a download.
    draft: its drafter, as `give_drafter` takes it: by default the one that lies with
        the model, if there is one.
    ple: where its table of per-layer embeddings is: "memory", "disk", from where the
        rows of each token are read, or "auto", on disk where memory is tight with it.
        Results are the same.

    Kernels are those that `gemma4`, or `check_kernels`, found to be right and not
    slower on this machine; nothing is measured here.

    Warns with MissingTowerWarning and DrafterWarning, and with KernelsWarning where
    GEMMA4_KERNELS=auto is set and nothing was found out yet. Raises ModelNotFoundError,
    CheckpointError, and MemoryError where the weights would not fit.
    """
    prepared, processor = prepare(path_or_repo, dtype, tqdm_class, ple=Ple(ple))
    model = prepared.load()
    give_drafter(model, prepared.folder, draft, tqdm_class)
    recall_kernels(prepared)
    return model, processor


def load_both(
    path_or_repo: str | Path,
    dtype: mx.Dtype | None = None,
    tqdm_class: type | None = None,
    to_chat: bool = False,
    ple: Ple = Ple.AUTO,
) -> tuple[Gemma4, Processor]:
    """As `load`, with the kernels as they are: off, unless all or some are asked for.

    to_chat: what has no chat template is refused before its weights are read.
    """
    prepared, processor = prepare(path_or_repo, dtype, tqdm_class, to_chat, ple)
    return prepared.load(), processor


def load_model(
    folder: Path, dtype: mx.Dtype | None = None, config: Config | None = None
) -> Gemma4:
    """The model of a local folder alone, with all of it in memory; `config` if it has
    been read already."""
    return prepare_model(folder, dtype, config).load()


@dataclass(frozen=True)
class Prepared:
    """A model whose files were read as far as their headers, and what its weights will
    be loaded in."""

    folder: Path
    plan: LoadPlan
    dtype: mx.Dtype
    ple: Ple = Ple.MEMORY
    part: Part | None = None  # where other processes hold the rest

    @property
    def conditions(self) -> Conditions:
        """What a check of the kernels with this model holds for."""
        config = self.plan.model.config.text_config
        return Conditions.of(config, self.plan.fit.packings, self.dtype)

    def shared_by(self, group: mx.distributed.Group) -> "Prepared":
        """What this process will hold of it where all of `group` hold it together."""
        config, packings = self.plan.model.config.text_config, self.plan.fit.packings
        shards = plan_shards(config, packings, group.rank(), group.size())
        return replace(self, part=Part(shards, group))

    @property
    def footprint(self) -> Footprint:
        """What its weights take."""
        return footprint(self.plan, self.dtype, self.part and self.part.plan)

    @property
    def text_config(self) -> TextConfig:
        """Of the model, or of the part."""
        config = self.plan.model.config.text_config
        return self.part.plan.config_of_part(config) if self.part else config

    @property
    def room(self) -> Room:
        """What its weights will take here, of what there is."""
        whole = self.footprint
        taken = whole.least if self.table_on_disk else whole.nbytes
        return Room(taken, memory_limit())

    @property
    def table_on_disk(self) -> bool:
        """Whether the table of per-layer embeddings stays there."""
        whole = self.footprint
        return self.ple.on_disk(whole.table, whole.nbytes, memory_limit())

    def check_memory(self) -> None:
        """Refuse at once what the system would swap or abort over later."""
        needed, limit = self.room.weights, self.room.limit
        if needed > limit:
            whose = "The" if self.part is None else "This process's part of the"
            raise MemoryError(
                f"{whose} weights in {self.folder} take {needed / 1e9:.1f} GB, but a "
                f"model may use at most {limit / 1e9:.1f} GB here.{self._remedy(limit)}"
            )

    def _remedy(self, limit: int) -> str:
        whole = self.footprint
        if self.table_on_disk or not whole.table:
            return ""
        enough = ", which fits" if whole.least <= limit else ""
        least = whole.least / 1e9
        return f" --ple disk (ple='disk') makes it {least:.1f} GB{enough}."

    def load(self) -> Gemma4:
        """Its model, filled. To be called once.

        Raises CheckpointError, and MemoryError where the weights would not fit.
        """
        self.check_memory()
        on_disk = self.table_on_disk
        plan = leave_table(self.plan, self.dtype) if on_disk else self.plan
        fill(plan, self.dtype, self.part)
        return plan.model


def give_drafter(
    model: Gemma4,
    folder: Path,
    draft: str | Path | None = None,
    tqdm_class: type | None = None,
) -> None:
    """Lets a loaded model have a drafter, as `model.drafter`.

    folder: of the model. draft: a drafter's folder or Hub id; None is the one that lies
        with the model, if there is one, and "off" none.
    tqdm_class: progress bar of a download.

    One that was named and cannot be used raises ModelNotFoundError, CheckpointError,
    or MemoryError where it does not fit beside the model; of another DrafterWarning
    tells, and the model has none.
    """
    model.drafter = None
    if draft == OFF:
        return
    if draft is not None:
        found = resolve(draft, tqdm_class, drafter=True)
        model.drafter = _drafter(model, folder, found)
    elif (beside := drafter_beside(folder)) is not None:
        try:
            model.drafter = _drafter(model, folder, beside)
        except (CheckpointError, MemoryError) as error:
            told = f"The model goes without its drafter. {error}"
            warnings.warn(told, DrafterWarning, stacklevel=3)


def _drafter(model: Gemma4, folder: Path, place: Path) -> Drafter:
    with _named(place):
        plan = plan_assistant(place)
        plan.model.config.check_pair(model.config, place, folder)
    dtype = model.language_model.norm.weight.dtype
    needed, limit = footprint(plan, dtype).nbytes, memory_limit()
    held = model.nbytes
    if held + needed > limit:
        raise MemoryError(
            f"The drafter in {place} takes {size(needed)} beside the {size(held)} of "
            f"the model, but both may use at most {size(limit)} here."
        )
    with _named(place):
        return Drafter(_filled(plan, dtype), place)


@contextmanager
def _named(place: Path) -> Iterator[None]:
    """Lets errors say that it is the drafter's files which are meant."""
    try:
        yield
    except CheckpointError as error:
        told = str(error)
        if str(place) not in told:
            told = f"The drafter in {place}: {told}"
        raise CheckpointError(told) from None


def load_assistant(folder: Path, dtype: mx.Dtype | None = None) -> Assistant:
    """The drafter of a local folder, in any packing that a model may have.

    dtype: of all weights that are not quantised, and of scales and biases; best that of
        the model which it drafts for. None takes what `load` would.
    Raises CheckpointError.
    """
    plan = plan_assistant(folder)
    return _filled(plan, dtype or own_dtype(plan.fit, plan.tensors))


def _filled(plan: AssistantPlan, dtype: mx.Dtype) -> Assistant:
    fill(plan, dtype)
    if "masked_embedding" in plan.model:
        plan.model.masked_embedding.check()
    return plan.model


def prepare(
    path_or_repo: str | Path,
    dtype: mx.Dtype | None = None,
    tqdm_class: type | None = None,
    to_chat: bool = False,
    ple: Ple = Ple.AUTO,
) -> tuple[Prepared, Processor]:
    """What `load_both` does before it reads weights."""
    folder = resolve(path_or_repo, tqdm_class, ple=ple)
    config, tensors = read_headers(folder)
    processor = Processor.from_folder(folder, config)
    if to_chat and processor.template is None:
        raise CheckpointError(NO_TEMPLATE.format(name=path_or_repo))
    return _prepared(folder, plan_load(config, tensors), dtype, ple), processor


def prepare_model(
    folder: Path,
    dtype: mx.Dtype | None = None,
    config: Config | None = None,
    ple: Ple = Ple.MEMORY,
) -> Prepared:
    """The same of a local folder, of its model alone."""
    return _prepared(folder, plan_load(*read_headers(folder, config)), dtype, ple)


def _prepared(
    folder: Path, plan: LoadPlan, dtype: mx.Dtype | None, ple: Ple
) -> Prepared:
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype}; it must be float32, bfloat16 or float16.")
    return Prepared(folder, plan, dtype or own_dtype(plan.fit, plan.tensors), ple)


def recall_kernels(prepared: Prepared) -> None:
    """With GEMMA4_KERNELS=auto: use the kernels that were found to be right."""

    def warn(text: str) -> None:
        warnings.warn(text, KernelsWarning, stacklevel=5)

    if is_auto():
        use_remembered(prepared.conditions, warn)
