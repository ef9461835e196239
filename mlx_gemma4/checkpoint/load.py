"""Loading: a folder or a Hub id becomes a model and its processor.

Tensors are read, converted and checked in groups, so that no second copy of the
weights exists at any time, and then never touched again.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from ..assistant.model import Assistant
from ..chat.template import NO_TEMPLATE
from ..config import Config
from ..device import memory_limit
from ..errors import CheckpointError
from ..hub.resolve import resolve
from ..kernels.choice import Conditions, is_auto, use_remembered
from ..model import Gemma4
from ..prompt.processor import Processor
from .copies import check_copies
from .files import listed
from .fit import Fit
from .names import BOUNDS, Place
from .packing import Packing
from .plan import (
    DTYPES,
    AssistantPlan,
    LoadPlan,
    loaded_bytes,
    own_dtype,
    plan_assistant,
    plan_load,
    read_headers,
)
from .quantized import quantize, set_table_dtypes

# Bytes evaluated together: enough to keep the disk busy, little beside any model.
GROUP = 64 * 2**20


class KernelsWarning(UserWarning):
    """`GEMMA4_KERNELS=auto`, and no kernel was checked with such a model here."""


def load(
    path_or_repo: str | Path,
    dtype: mx.Dtype | None = None,
    tqdm_class: type | None = None,
) -> tuple[Gemma4, Processor]:
    """A model with its weights, and what turns messages into its tokens.

    path_or_repo: a folder, a Hub id (`org/name`, `org/name@revision`), a short name
        ("e4b", "e4b:qat") or "demo".
    dtype: of all weights that are not quantised, and of the scales and biases of those
        that are. None takes that of the embeddings in the files on a GPU, and float32
        on the CPU, where MLX computes bfloat16 coarsely or not at all.
    tqdm_class: progress bar of a download.

    Kernels are those that `gemma4`, or `check_kernels`, found to be right and not
    slower on this machine; nothing is measured here.

    Warns with MissingTowerWarning, and with KernelsWarning where GEMMA4_KERNELS=auto is
    set and nothing was found out yet. Raises ModelNotFoundError, CheckpointError, and
    MemoryError where the weights would not fit.
    """
    prepared, processor = prepare(path_or_repo, dtype, tqdm_class)
    model = prepared.load()
    recall_kernels(prepared)
    return model, processor


def load_both(
    path_or_repo: str | Path,
    dtype: mx.Dtype | None = None,
    tqdm_class: type | None = None,
    to_chat: bool = False,
) -> tuple[Gemma4, Processor]:
    """As `load`, with the kernels as they are: off, unless all or some are asked for.

    to_chat: what has no chat template is refused before its weights are read.
    """
    prepared, processor = prepare(path_or_repo, dtype, tqdm_class, to_chat)
    return prepared.load(), processor


def load_model(
    folder: Path, dtype: mx.Dtype | None = None, config: Config | None = None
) -> Gemma4:
    """The model of a local folder alone; `config` if it has been read already."""
    return prepare_model(folder, dtype, config).load()


@dataclass(frozen=True)
class Prepared:
    """A model whose files were read as far as their headers, and what its weights will
    be loaded in."""

    folder: Path
    plan: LoadPlan
    dtype: mx.Dtype

    @property
    def conditions(self) -> Conditions:
        """What a check of the kernels with this model holds for."""
        config = self.plan.model.config.text_config
        return Conditions.of(config, self.plan.fit.packings, self.dtype)

    def check_memory(self) -> None:
        """Refuse at once what the system would swap or abort over later."""
        needed = loaded_bytes(self.plan.fit, self.plan.tensors, self.dtype)
        limit = memory_limit()
        if needed > limit:
            raise MemoryError(
                f"The weights in {self.folder} take {needed / 1e9:.1f} GB, but a model "
                f"may use at most {limit / 1e9:.1f} GB here."
            )

    def load(self) -> Gemma4:
        """Its model, filled. To be called once.

        Raises CheckpointError, and MemoryError where the weights would not fit.
        """
        self.check_memory()
        _fill(self.plan, self.dtype)
        return self.plan.model


def load_assistant(folder: Path, dtype: mx.Dtype | None = None) -> Assistant:
    """The drafter of a local folder, in any packing that a model may have.

    dtype: of all weights that are not quantised, and of scales and biases; best that of
        the model which it drafts for. None takes what `load` would.
    Raises CheckpointError.
    """
    plan = plan_assistant(folder)
    _fill(plan, dtype or own_dtype(plan.fit, plan.tensors))
    if "masked_embedding" in plan.model:
        plan.model.masked_embedding.check()
    return plan.model


def _fill(plan: LoadPlan | AssistantPlan, dtype: mx.Dtype) -> None:
    model, tensors, fit = plan.model, plan.tensors, plan.fit
    check_copies(fit.copies)
    quantize(model, fit.packings)
    files = sorted({tensor.file for tensor in tensors.values()})
    weights = dict(_evaluated(fit, _read(files), dtype))
    model.load_weights(list(weights.items()), strict=True)
    set_table_dtypes(model, model.language_model.norm.weight.dtype)
    model.eval()


def prepare(
    path_or_repo: str | Path,
    dtype: mx.Dtype | None = None,
    tqdm_class: type | None = None,
    to_chat: bool = False,
) -> tuple[Prepared, Processor]:
    """What `load_both` does before it reads weights."""
    folder = resolve(path_or_repo, tqdm_class)
    config, tensors = read_headers(folder)
    processor = Processor.from_folder(folder, config)
    if to_chat and processor.template is None:
        raise CheckpointError(NO_TEMPLATE.format(name=path_or_repo))
    return _prepared(folder, plan_load(config, tensors), dtype), processor


def prepare_model(
    folder: Path, dtype: mx.Dtype | None = None, config: Config | None = None
) -> Prepared:
    """The same of a local folder, of its model alone."""
    return _prepared(folder, plan_load(*read_headers(folder, config)), dtype)


def _prepared(folder: Path, plan: LoadPlan, dtype: mx.Dtype | None) -> Prepared:
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype}; it must be float32, bfloat16 or float16.")
    return Prepared(folder, plan, dtype or own_dtype(plan.fit, plan.tensors))


def recall_kernels(prepared: Prepared) -> None:
    """With GEMMA4_KERNELS=auto: use the kernels that were found to be right."""

    def warn(text: str) -> None:
        warnings.warn(text, KernelsWarning, stacklevel=5)

    if is_auto():
        use_remembered(prepared.conditions, warn)


def _read(files: list[Path]) -> dict[str, mx.array]:
    """All tensors, none of them evaluated: reading happens on evaluation."""
    arrays: dict[str, mx.array] = {}
    for file in files:
        try:
            stored = mx.load(str(file), format="safetensors")
        except RuntimeError as error:
            raise CheckpointError(f"{file} cannot be read: {error}") from None
        assert isinstance(stored, dict)
        arrays |= stored
    return arrays


def _evaluated(
    fit: Fit, arrays: dict[str, mx.array], dtype: mx.Dtype
) -> Iterator[tuple[str, mx.array]]:
    """The parameters, group by group. Taken out of `arrays`, which would keep them."""
    group: dict[str, mx.array] = {}
    for parameter, sources in fit.sources.items():
        array = _join([(where, arrays.pop(name)) for where, name in sources])
        if parameter in fit.channels_last:
            array = mx.moveaxis(array, -1, 1)
        if mx.issubdtype(array.dtype, mx.floating):
            array = array.astype(dtype)
        elif array.dtype == mx.int64:  # ids, which fit into half of it
            array = array.astype(mx.int32)
        group[parameter] = array
        if sum(a.nbytes for a in group.values()) >= GROUP:
            yield from _check(group, fit)
            group = {}
    yield from _check(group, fit)


def _join(pieces: list[tuple[Place, mx.array]]) -> mx.array:
    """One parameter of its pieces: gate over up, expert after expert."""
    if len(pieces) == 1 and pieces[0][0].expert is None:
        return pieces[0][1]
    experts: dict[int | None, list[mx.array]] = {}
    for where, array in pieces:
        experts.setdefault(where.expert, []).append(array)
    whole = [mx.concatenate(halves, axis=-2) for halves in experts.values()]
    return whole[0] if None in experts else mx.stack(whole)


def _check(group: dict[str, mx.array], fit: Fit) -> Iterator[tuple[str, mx.array]]:
    """Evaluate a group and refuse what is not finite.

    A sum is finite only if all its terms are, and costs a fifth of looking at each;
    where it is not, it may also have overflowed, and the terms decide.
    """
    probes = {name: _probe(name, array, fit.packings) for name, array in group.items()}
    probes = {name: probe for name, probe in probes.items() if probe is not None}
    mx.eval(group, probes)
    mx.clear_cache()  # the buffers of what was converted would add up
    wrong = [
        name
        for name, probe in probes.items()
        if not mx.isfinite(probe).item() and not _is_finite(name, group[name])
    ]
    if wrong:
        names = [source for name in wrong for _, source in fit.sources[name]]
        reason = "the checkpoint is damaged: download it again, or make it anew"
        if group[wrong[0]].dtype == mx.float16:
            reason += "; or its values do not fit into float16"
        raise CheckpointError(f"NaN or infinite values in {listed(names)}: {reason}.")
    yield from group.items()


def _probe(
    name: str, array: mx.array, packings: Mapping[str, Packing]
) -> mx.array | None:
    """A scalar that is not finite if any value is not; None for whole numbers."""
    if mx.issubdtype(array.dtype, mx.floating):
        return array.sum()
    module, _, kind = name.rpartition(".")
    if kind != "scales":
        return None
    # One-byte scales: E4M3 spells NaN in seven bits, E8M0 in eight.
    nan = 0x7F if packings[module].mode == "nvfp4" else 0xFF
    return mx.where(((array & nan) == nan).any(), mx.nan, 0.0)


def _is_finite(name: str, array: mx.array) -> bool:
    if not mx.issubdtype(array.dtype, mx.floating):
        return False  # the probe of one-byte scales is exact
    if name.endswith(BOUNDS):
        return not mx.isnan(array).any().item()
    return bool(mx.isfinite(array).all().item())
