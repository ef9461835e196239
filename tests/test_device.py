"""Memory that macOS is asked to leave alone."""

import mlx.core as mx
import pytest

from mlx_gemma4 import device


@pytest.mark.parametrize(("own", "after"), [(0, 70), (50, 50)])
def test_weights_stay_in_memory_from_the_first_answer_on(
    own: int, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once per process; a limit of the program's own is not replaced."""
    limits = [own]

    def set_limit(limit: int) -> int:
        limits.append(limit)
        return limits[-2]

    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(mx, "set_wired_limit", set_limit)
    monkeypatch.setattr(device, "memory_limit", lambda: 70)
    device.keep_in_memory.cache_clear()
    device.keep_in_memory()
    assert limits[-1] == after
    count = len(limits)
    device.keep_in_memory()
    assert len(limits) == count
    device.keep_in_memory.cache_clear()
