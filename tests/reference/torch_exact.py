"""The reference in float64, from the rotary angles to the logits: what is true.

Its code says float32 in many places (norms, softmax, angles, pooling); here all of
them mean float64, while a model is made and while it runs.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import golden
import numpy as np
import torch
import torch_model


@contextmanager
def in_doubles() -> Iterator[None]:
    """Within it torch's single precision is its double precision."""
    single, spelled = torch.float32, ("float32", "float")
    usual = torch.Tensor.float
    try:
        torch.set_default_dtype(torch.float64)
        for name in spelled:
            setattr(torch, name, torch.float64)
        torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
        yield
    finally:
        torch.Tensor.float = usual  # type: ignore[method-assign]
        for name in spelled:
            setattr(torch, name, single)
        torch.set_default_dtype(single)


def both(
    config: Mapping[str, Any], seed: int, run: Callable[[Any], np.ndarray]
) -> golden.Reference:
    """What `run` computes with the reference of a config.json dict, in float32 and in
    float64; the weights and what is put in are the same float32 numbers."""
    rounded = run(torch_model.build(config, seed))
    with in_doubles():
        exact = run(torch_model.build(config, seed).double())
    if exact.dtype != np.float64:
        raise TypeError(f"the exact logits are {exact.dtype}")
    return golden.Reference(rounded, exact)
