"""How much it hurts to pack a matrix, measured on text.

Matrices of one class in a few neighbouring layers are packed alone, and the divergence
of the model's predictions is shared among them. It grows with the square of the error,
so that of another packing follows from how far the weights are from their own.
"""

import math
from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from mlx_gemma4.checkpoint.files import StoredTensor

from .layerwise import Advance, Layerwise, Text, Version, numbers
from .mixed import Harm, is_keys_or_values, ladder, layer_of
from .plan import TensorPlan
from .reader import Reader
from .stream import as_array, packed

BANDS = 8  # of layers
PROBE = 3  # bits of what is packed alone, if it can have as few
SAMPLED = 2**14  # weights of a matrix whose error is measured


def versions(tensors: Sequence[TensorPlan]) -> list[Version]:
    """What is packed together, and nothing else with it, to see how much it hurts."""
    depth = 1 + max((layer_of(tensor) or 0 for tensor in tensors), default=0)
    found: dict[tuple[object, ...], dict[str, TensorPlan]] = {}
    for tensor in tensors:
        rungs = [rung for rung in ladder(tensor) if rung.grid is None]
        if len(rungs) < 2:
            continue
        layer, part = layer_of(tensor), tensor.modules[0].rpartition(".")[2]
        band = None if layer is None else layer * min(depth, BANDS) // depth
        key = tensor.kind, is_keys_or_values(tensor), part == "down_proj", band
        found.setdefault(key, {})[tensor.name] = _probe(rungs)
    return list(found.values())


def _probe(rungs: Sequence[TensorPlan]) -> TensorPlan:
    enough = [r for r in rungs if r.packing is not None and r.packing.bits >= PROBE]
    return enough[0] if enough else rungs[-1]


def measured_harm(
    model: Layerwise,
    tensors: Sequence[TensorPlan],
    text: Text,
    advance: Advance = lambda count: None,
) -> Harm:
    """The mean divergence of the predictions that a matrix in a packing leads to.

    tensors: of the plan. advance: called as often as `model.steps(versions(tensors))`
        says. Raises CheckpointError where the source is damaged.
    """
    probes = versions(tensors)
    found = model.compare(probes, text, advance)
    errors = _Errors(model.reader)
    unit: dict[str, float] = {}  # divergence per weight and squared error
    for version, fidelity in zip(probes, found, strict=True):
        total = sum(t.params * errors.of(t) for t in version.values())
        for name in version:
            unit[name] = fidelity.kl_mean / total if total else 0.0

    def harm(tensor: TensorPlan) -> float:
        return unit.get(tensor.name, 0.0) * tensor.params * errors.of(tensor)

    return harm


class _Errors:
    """Relative squared errors of packings, by a sample of the weights."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.samples: dict[str, np.ndarray] = {}
        self.found: dict[tuple[object, ...], float] = {}

    def of(self, tensor: TensorPlan) -> float:
        if tensor.packing is None or tensor.grid:
            return 0.0
        key = tensor.name, tensor.packing
        if key not in self.found:
            self.found[key] = self._measured(tensor)
        return self.found[key]

    def _measured(self, tensor: TensorPlan) -> float:
        if tensor.name not in self.samples:
            self.samples[tensor.name] = self._sample(tensor.first)
        raw = self.samples[tensor.name]
        weights = as_array(raw, tensor.first).astype(mx.float32)
        off = numbers(packed(tensor, [raw]), tensor) - weights
        size, error = (float(np.square(np.array(a)).sum()) for a in (weights, off))
        return error / size if size else 0.0

    def _sample(self, tensor: StoredTensor) -> np.ndarray:
        rows = math.prod(tensor.shape[:-1])
        count = min(rows, max(2, SAMPLED // tensor.shape[-1]))
        # From the middle: the first rows of a table belong to unused tokens.
        return self.reader.rows(tensor, (rows - count) // 2, count, rows)
