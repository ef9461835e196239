"""Quantised modules in the place of plain ones, as a checkpoint's packings say."""

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from .packing import Packing


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
