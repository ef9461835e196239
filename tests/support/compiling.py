"""Functions that MLX would compile, which takes a compiler on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx


@contextmanager
def uncompiled() -> Iterator[None]:
    """Meanwhile they run as they are."""
    mx.disable_compile()
    try:
        yield
    finally:
        mx.enable_compile()
