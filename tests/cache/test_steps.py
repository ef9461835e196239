"""A cache changes in one step, wherever Ctrl-C stops it, and copies what it must."""

import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import mlx.core as mx
import pytest

from mlx_gemma4.cache import FullCache, SlidingCache, buffers

ROOM = Path(buffers.__file__).parent


def at(start: int, count: int) -> mx.array:
    """Keys or values that are their positions: [1, 1, count, 1]."""
    return mx.arange(start, start + count, dtype=mx.float32)[None, None, :, None]


def is_stopped(call: Callable[[], object], after: int) -> bool:
    """Whether `call` still runs behind so many steps within the module; Ctrl-C then."""

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal after
        if Path(frame.f_code.co_filename).parent != ROOM:
            return None
        frame.f_trace_opcodes = True
        after -= event == "opcode"
        if after < 0:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("what", ["append", "drop", "pass through", "restore"])
@pytest.mark.parametrize("kind", [SlidingCache, FullCache])
def test_ctrl_c_leaves_the_cache_before_or_behind_a_step(
    kind: type[SlidingCache] | type[FullCache],
    what: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wherever it stops one, the next query sees the window of positions before it."""
    monkeypatch.setattr(buffers, "STEP", 4)
    new = {"append": 1, "drop": 3, "pass through": 20, "restore": 0}[what]
    for steps in count():
        cache = FullCache() if kind is FullCache else SlidingCache(window=4, slack=2)
        cache.update_and_fetch(at(0, 5), at(0, 5))
        pinned = cache.snapshot()
        cache.update_and_fetch(at(5, 2), at(5, 2))
        assert pinned.held.offset == 5 and cache.offset == 7

        def change(cache: Any = cache, pinned: Any = pinned) -> None:
            if what == "restore":
                cache.restore(pinned)
            else:
                cache.update_and_fetch(at(7, new), at(7, new))

        stopped, end = is_stopped(change, steps), 7 + new if new else 5
        assert cache.offset in ((7, end) if stopped else (end,))
        position = cache.offset
        first = 0 if kind is FullCache else max(0, position - 3)
        seen = cache.update_and_fetch(at(position, 1), at(position, 1))
        for x in seen:
            assert x.flatten().tolist() == list(range(first, position + 1)), steps
        if not stopped:
            assert steps > 20
            return


def test_ctrl_c_in_a_rollback_leaves_no_snapshot_of_what_was_taken_back() -> None:
    for steps in count():
        cache = FullCache()
        cache.update_and_fetch(at(0, 5), at(0, 5))
        pinned = cache.snapshot()
        stopped = is_stopped(lambda cache=cache: cache.trim(2), steps)
        taken = cache.offset == 3
        cache.update_and_fetch(at(cache.offset, 4), at(cache.offset, 4))
        assert not (taken and cache.can_restore(pinned)), steps
        if not stopped:
            assert taken and steps > 20
            return


def test_a_later_chunk_is_copied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more than the buffer holds: what is kept of its keys and values."""
    copied, copy = list[int](), buffers._copy

    def note(x: mx.array, slots: int) -> mx.array:
        copied.append(x.shape[2])
        return copy(x, slots)

    monkeypatch.setattr(buffers, "_copy", note)
    cache, chunk = SlidingCache(window=8, slack=16), mx.zeros((1, 1, 700, 4))
    for _ in range(3):
        cache.update_and_fetch(chunk, chunk)
    assert copied == [7 + 16] * 3
