"""What the kernels cost on the stand-in GPU is what instructions.json says.

A kernel that was changed changes its figures: where they are meant to, write them anew
(see instructions.py), and their difference shows what the change costs.
"""

import json
import re
from pathlib import Path

import clang
import mlx.core as mx
import pytest
from instructions import Figures, figures, measured
from real_cases import CASES

VERSION = 22  # of clang, whose figures these are
RECORDED = json.loads(Path(__file__).with_name("instructions.json").read_text())
EVERY = {t: Figures(**f) for name in RECORDED for t, f in RECORDED[name].items()}
MOST = 34.0  # operations for a word of weights of 4 bits
# What some words say, summed up. As it stands: a loop that stays one.
SUM = """
    float sum = 0.0f;
    _Pragma("clang loop unroll(disable)")
    for (uint i = thread_index_in_simdgroup; i < uint(N[0]); i += 32) {
      const uint word = words[i];
      LINE
      sum += float(word);
    }
    out[thread_index_in_simdgroup] = sum;
"""


@pytest.fixture(scope="session")
def compiler() -> clang.Clang:
    found = clang.compiler()
    if found is None:
        pytest.skip(str(clang.missing()))
    if found.version != VERSION:
        pytest.skip(f"figures are clang {VERSION}'s, not clang {found.version}'s")
    return found


@pytest.mark.parametrize("name", CASES)
def test_figures_are_those_recorded(compiler: clang.Clang, name: str) -> None:
    found = {title: vars(each) for title, each in measured(compiler, name).items()}
    assert found == RECORDED[name]


def test_loops_hold_no_branch_and_registers_suffice() -> None:
    for title, found in EVERY.items():
        assert not found.in_loops and not found.stack, title


def test_products_with_packed_weights_do_little_for_a_word() -> None:
    """For one row; for several more is done with each word."""
    many = r"BITS=8|GROUP=32|TOKENS=([2-9]|1\d)"
    words = {t: f.per_word for t, f in EVERY.items() if not re.search(many, t)}
    packed = {title: figure for title, figure in words.items() if "BITS=4" in title}
    assert packed
    for title, figure in packed.items():
        assert 0 < figure <= MOST, title


def cost(compiler: clang.Clang, line: str) -> Figures:
    """Of SUM, with one more line in its loop."""
    calls = clang.Calls()
    source = SUM.replace("LINE", line)
    calls.metal_kernel("sum", ["words", "N"], ["out"], source)(
        inputs=[mx.zeros((64,), mx.uint32), mx.array([64])],
        template=[],
        grid=(32, 1, 1),
        threadgroup=(32, 1, 1),
        output_shapes=[(32,)],
        output_dtypes=[mx.float32],
    )
    (text,) = calls.found
    return figures(compiler.compile(text))


def test_one_operation_more_counts_as_one(compiler: clang.Clang) -> None:
    plain = cost(compiler, "")
    more = cost(compiler, "sum *= 3.0f;")
    assert more.arithmetic == plain.arithmetic + 1
    assert more.per_word == plain.per_word + 1.0
    assert plain.in_loops == plain.stack == 0


def test_a_branch_within_a_loop_is_seen(compiler: clang.Clang) -> None:
    found = cost(compiler, "if (word > 5) out[word] = sum;")
    assert found.in_loops == 1


def test_an_array_that_registers_cannot_hold_is_seen(compiler: clang.Clang) -> None:
    found = cost(compiler, "float a[64]; a[i % 64] = sum; sum += a[word % 64];")
    assert found.stack > 0
