"""Each kernel at the shapes of the real models and at an odd one, for `close` to judge.

A new kernel is one more function here, and its name in CASES.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import attention_cases
import mlx.core as mx
import test_dense
import test_experts
import test_heads
import test_norms
import test_router
from checks import random

PACKINGS = tuple(product((4, 8), (32, 64)))  # bits, and weights to a scale


def norms(dtype: mx.Dtype) -> None:
    uses = [
        (1, 1536, test_norms.BEFORE_PER_LAYER_INPUT),  # E2B
        (1, 2560, test_norms.BEHIND_MLP),  # E4B
        (2, 2816, test_norms.BEHIND_ATTENTION),  # 26B-A4B
        (1, 2816, test_norms.BEHIND_EXPERTS),
        (1, 5376, test_norms.BEHIND_MLP),  # 31B
        (16, 384, test_norms.MOST),
    ]
    for rows, width, case in uses:
        test_norms.Inputs(case, rows, width, dtype).check()


def heads(dtype: mx.Dtype) -> None:
    """Far into a text, but in float32, whose angles would be the larger error there."""
    offset = 7 if dtype == mx.float32 else 3000
    for case in (
        test_heads.Case(1, 1, 8, 1, 256, test_heads.SLIDING),
        test_heads.Case(1, 3, 16, 2, 512, test_heads.FULL),
        test_heads.Case(2, 5, 3, 3, 24, test_heads.FULL),
    ):
        replace(case, offset=offset, dtype=dtype).check()


def router(dtype: mx.Dtype) -> None:
    test_router.check(random(1, (16, 128), dtype), 8)
    test_router.check(random(2, (3, 70), dtype), 3)


def experts(dtype: mx.Dtype) -> None:
    """Eight a token, as 26B-A4B has, on narrow maps."""
    for bits, group_size in PACKINGS:
        case = test_experts.Case(2, 9, 8, 256, 64, bits, group_size, dtype)
        test_experts.compare(case)
    test_experts.compare(test_experts.Case(hidden=608, dtype=dtype))


def wide_experts(dtype: mx.Dtype) -> None:
    """26B-A4B's widths, with 9 experts in place of 128."""
    case = test_experts.Case(1, 9, 8, 2816, 704, group_size=64, dtype=dtype)
    test_experts.compare(case)


def maps(name: str, dtype: mx.Dtype, *inputs: int) -> None:
    """All packings of maps with these inputs; several rows, and many outputs."""
    for (bits, group_size), width in product(PACKINGS, inputs):
        test_dense.Case(width, 24, 1, bits, group_size, dtype).check(name)
    test_dense.Case(608, 7, 3, dtype=dtype).check(name)
    test_dense.Case(576, 2050, 1, group_size=64, dtype=dtype).check(name)
    test_dense.Case(96, 2050, 16, dtype=dtype).check(name)


def gate(dtype: mx.Dtype) -> None:
    """E2B's and E4B's widths."""
    maps("gate", dtype, 1536, 2560)


def project(dtype: mx.Dtype) -> None:
    """26B-A4B's width, and 31B's."""
    maps("project", dtype, 2816, 5376)
    test_dense.Case(2816, 24, 1, dtype=dtype, maps=2).check("project")


def geglu(dtype: mx.Dtype) -> None:
    maps("geglu", dtype, 2816, 5376)


def dense(dtype: mx.Dtype) -> None:
    """26B-A4B's MLP, and its heads together, as well as 31B's MLP."""
    maps("dense", dtype, 2112, 4096, 21504)


def attention(dtype: mx.Dtype) -> None:
    """Sliding and full heads; each query alone, and several; one launch, and two."""
    for case in (
        attention_cases.Case(1, 100, 8, 1, 256),
        attention_cases.Case(3, 70, 8, 2, 512, window=64),
        attention_cases.Case(4, 1026, 16, 8, 256, window=1024),
        attention_cases.Case(1, 4100, 16, 2, 512),
        attention_cases.Case(16, 33, 3, 3, 40, batch=2),
    ):
        attention_cases.compare(replace(case, dtype=dtype))
        attention_cases.compare_raw(replace(case, dtype=dtype))


Case = Callable[[mx.Dtype], None]
CASES: dict[str, Case] = {
    "norms": norms,
    "heads": heads,
    "router": router,
    "experts": experts,
    "gate": gate,
    "project": project,
    "geglu": geglu,
    "dense": dense,
    "attention": attention,
}
# Too slow to make where nothing is computed, and no other program than in CASES.
SLOW_CASES: dict[str, Case] = {"experts": wide_experts}
