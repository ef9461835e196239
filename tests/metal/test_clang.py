"""Every kernel passes clang with Metal's address spaces, in all of its variants."""

import clang
import pytest
from checks import DTYPES, noted
from real_cases import CASES
from test_harness_faults import SHARES, shares

from mlx_gemma4.kernels import using


@pytest.fixture(scope="session")
def compiler() -> clang.Clang:
    found = clang.compiler()
    if found is None:
        pytest.skip(str(clang.missing()))
    return found


def sources(name: str) -> list[str]:
    calls = clang.Calls()
    with using(name, make=calls.metal_kernel), noted():
        for dtype in DTYPES:
            CASES[name](dtype)
    return list(calls.found)


@pytest.mark.parametrize("name", CASES)
def test_a_kernel_passes(compiler: clang.Clang, name: str) -> None:
    texts = sources(name)
    assert len(texts) >= len(DTYPES)
    for text in texts:
        compiler.check(text)


# In the kernel of test_harness_faults. The CPU harness compiles all of them: C++ has
# one address space, and double.
FAULTS = {
    "threadgroup memory as device memory": (
        "float total = part[0]",
        "const device float* all = part; float total = all[0]",
        "cannot initialize",
    ),
    "a thread's memory as device memory": (
        "const device T* xr = x + row * W;",
        "T own[1]; const device T* xr = own;",
        "cannot initialize",
    ),
    "device memory as threadgroup memory": (
        "float total = part[0]",
        "threadgroup T* none = out; float total = part[0]",
        "cannot initialize",
    ),
    "a double": ("/ total)", "/ total * 1.0)", "double"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(compiler: clang.Clang, fault: str) -> None:
    old, new, message = FAULTS[fault]
    assert SHARES.count(old) == 1
    with pytest.raises(clang.ClangFault, match=message):
        compiler.check(shares_source(SHARES.replace(old, new)))


def test_the_sound_kernel_passes(compiler: clang.Clang) -> None:
    compiler.check(shares_source(SHARES))


def shares_source(source: str) -> str:
    calls = clang.Calls()
    shares(calls, source)
    (text,) = calls.found
    return text
