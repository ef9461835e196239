"""What of a model is learned, and the gradient of a batch's loss."""

from collections.abc import Callable, Mapping

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from ..model import Gemma4
from .adapters import Adapter, put_on
from .batches import Batch, batch_loss

Arrays = Mapping[str, mx.array]
Gradient = Callable[[Arrays, Batch], tuple[mx.array, dict[str, mx.array]]]


def prepare(model: Gemma4, adapter: Adapter) -> dict[str, mx.array]:
    """Put the adapter on and freeze all else. Returns what is learned, by name."""
    model.freeze()
    put_on(model, adapter)
    for layer in adapter.layers.values():
        layer.unfreeze(keys=["lora_a", "lora_b", "m"], recurse=False)
    modules = dict(model.named_modules())
    for name in adapter.weights:
        path, _, leaf = name.rpartition(".")
        if path in modules:
            modules[path].unfreeze(keys=[leaf], recurse=False)
        else:  # a convolution's weight in a plain dictionary of its module
            path, _, leaf = path.rpartition(".")
            modules[path].unfreeze(keys=[leaf], recurse=False)
    return dict(tree_flatten(model.trainable_parameters()))


def gradient_of(model: Gemma4, checkpoint: bool) -> Gradient:
    """A function of parameters and a batch: its summed loss and their gradients."""

    def loss(parameters: dict[str, mx.array], batch: Batch) -> mx.array:
        model.update(tree_unflatten(list(parameters.items())))
        return batch_loss(model, batch, checkpoint)

    both = mx.value_and_grad(loss)

    def gradient(
        parameters: Arrays, batch: Batch
    ) -> tuple[mx.array, dict[str, mx.array]]:
        value, gradients = both(dict(parameters), batch)
        model.update(tree_unflatten(list(parameters.items())))  # not the traced ones
        return value, gradients

    return gradient
