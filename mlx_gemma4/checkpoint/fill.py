"""Modules and weights of a model that is loaded: quantised modules in the place of
plain ones, as a checkpoint's packings say, and the tensors, joined and checked.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from ..errors import CheckpointError
from ..text.rows import Packed, Part, not_finite
from ..text.table import Layout, RowTable
from .copies import check_copies
from .files import StoredTensor, listed
from .fit import Fit
from .names import BOUNDS, Place
from .packing import Packing
from .plan import STORED, TABLE, AssistantPlan, LoadPlan

# Of a quantised table, in the order in which MLX takes them.
PARTS = ("weight", "scales", "biases")
# Bytes evaluated together: enough to keep the disk busy, little beside any model.
GROUP = 64 * 2**20


class _FloatTable(nn.QuantizedEmbedding):
    """An embedding whose packing has no floating scale to take the result's type from.

    MLX's own gives bfloat16, whatever the rest of the model is.
    """

    dtype = mx.float32

    def __call__(self, x: mx.array) -> mx.array:
        return mx.dequantize(
            self.weight[x],
            self.scales[x],
            group_size=self.group_size,
            bits=self.bits,
            mode=self.mode,
            dtype=self.dtype,
        )


def quantize(model: nn.Module, packings: Mapping[str, Packing]) -> None:
    """Replace modules by quantised ones. Nothing is evaluated, so nothing is packed."""

    def settings(path: str, module: nn.Module) -> dict[str, Any] | bool:
        packing = packings.get(path)
        return vars(packing) if packing else False

    nn.quantize(model, class_predicate=settings)
    tables = {
        path: _FloatTable(
            module.num_embeddings,
            module.dims,
            module.group_size,
            module.bits,
            module.mode,
        )
        for path, module in model.named_modules()
        if isinstance(module, nn.QuantizedEmbedding) and module.mode != "affine"
    }
    model.update_modules(tree_unflatten(list(tables.items())))


def set_table_dtypes(model: nn.Module, dtype: mx.Dtype) -> None:
    """Let embeddings without floating scales give `dtype`, as the rest does."""
    for _, module in model.named_modules():
        if isinstance(module, _FloatTable):
            module.dtype = dtype


def leave_table(plan: LoadPlan, dtype: mx.Dtype) -> LoadPlan:
    """Let the model of `plan` read its table of per-layer embeddings row by row; what
    is left to load. Raises CheckpointError."""
    text, config, fit = plan.model.language_model, plan.model.config, plan.fit
    stored: list[StoredTensor] = []
    for kind in PARTS:
        stored += [plan.tensors[n] for _, n in fit.sources.get(f"{TABLE}.{kind}", ())]
    packing = fit.packings.get(TABLE)
    text.embed_tokens_per_layer = RowTable(
        Layout(
            stored[0].shape[0],
            [_part(tensor) for tensor in stored],
            packing and Packed(packing.group_size, packing.bits, packing.mode),
            dtype,
            config.text_config.pad_token_id,
            frozenset(config.placeholders),
        )
    )
    loaded = {n: s for n, s in fit.sources.items() if n.rpartition(".")[0] != TABLE}
    return replace(plan, fit=replace(fit, sources=loaded))


def _part(tensor: StoredTensor) -> Part:
    dtype = {**STORED, "U32": mx.uint32, "U8": mx.uint8}[tensor.dtype]
    return Part(tensor.name, tensor.file, tensor.offset, dtype, tensor.shape[1])


def fill(plan: LoadPlan | AssistantPlan, dtype: mx.Dtype) -> None:
    """Load the model of `plan`, which is empty. Raises CheckpointError."""
    model, tensors, fit = plan.model, plan.tensors, plan.fit
    check_copies(fit.copies)
    quantize(model, fit.packings)
    files = sorted({tensor.file for tensor in tensors.values()})
    weights = dict(_evaluated(fit, _read(files), dtype))
    model.load_weights(list(weights.items()), strict=True)
    set_table_dtypes(model, model.language_model.norm.weight.dtype)
    model.eval()


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
        raise not_finite(listed(names), group[wrong[0]].dtype)
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
