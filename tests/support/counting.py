"""Counting launches of kernels."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx


class Launches:
    """Makes kernels as MLX does, and counts how often they run."""

    def __init__(self) -> None:
        self.count = 0

    def make(self, *arguments: Any, **options: Any) -> Callable[..., list[mx.array]]:
        kernel: Any = mx.fast.metal_kernel(*arguments, **options)

        def launch(**inputs: Any) -> list[mx.array]:
            self.count += 1
            return kernel(**inputs)

        return launch
