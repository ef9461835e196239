"""The line: in order, not too long, and nobody computes for one who has gone."""

import threading
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest

from mlx_gemma4 import Batch, Processor
from mlx_gemma4.cli.serve.engine import Asked, Engine
from mlx_gemma4.cli.serve.errors import Refused
from mlx_gemma4.cli.serve.worker import Job, Worker
from mlx_gemma4.decoding.needs import GaveWay
from mlx_gemma4.prompt.attachments import Attachments


class Idle(Engine):
    def __init__(self) -> None:
        self.name, self.model, self.rows = "idle", cast(Any, None), 1


def items(job: Job) -> list:
    found = []
    while not job.ended:
        if (item := job.take(10)) is not None:
            found.append(item)
    return found


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(line=2)
    thread = threading.Thread(target=worker.run, args=(Idle(),))
    thread.start()
    yield worker
    worker.stop(at_once=True)
    thread.join(10)
    assert not thread.is_alive()


def numbers(engine: Engine) -> Iterator[int]:
    yield from range(1, 4)


class Held:
    """Work that begins and goes on to the next token when it is told to."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.closed = False

    def __call__(self, engine: Engine) -> Iterator[str]:
        try:
            self.begun.set()
            self.go_on.wait(10)
            engine.progress(5, 10)
            yield "one"
            yield "two"
        finally:
            self.closed = True


def test_what_comes_is_handed_over(worker) -> None:
    assert items(worker.submit(numbers)) == [1, 2, 3]


def test_an_error_is_handed_over(worker) -> None:
    def wrong(engine: Engine) -> Iterator[int]:
        yield 1
        raise ValueError("no")

    job = worker.submit(wrong)
    assert job.take(10) == 1
    with pytest.raises(ValueError, match="no"):
        job.take(10)
    assert job.ended and job.take(0) is None
    assert items(worker.submit(numbers)) == [1, 2, 3]


def test_a_line_that_is_full(worker) -> None:
    held = Held()
    first = worker.submit(held)
    held.begun.wait(10)
    waiting = [worker.submit(numbers) for _ in range(2)]
    with pytest.raises(Refused) as error:
        worker.submit(numbers)
    assert error.value.status == 429 and error.value.retry_after
    held.go_on.set()
    assert items(first) == ["one", "two"]
    assert [items(job) for job in waiting] == [[1, 2, 3]] * 2


def test_a_prompt_that_nobody_waits_for(worker) -> None:
    held = Held()
    job = worker.submit(held)
    held.begun.wait(10)
    job.cancel()
    held.go_on.set()
    assert items(job) == [] and held.closed
    assert (job.read, job.of) == (5, 10)


def test_media_that_nobody_waits_for(
    worker: Worker, media_processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read of pictures ends between two of them."""
    seen: list[str] = []

    def read(_: Attachments, source: str, part: Mapping[str, Any]) -> str:
        seen.append(source)
        job.cancel()
        return ""

    monkeypatch.setattr(Attachments, "_image", read)

    def look(engine: Engine) -> Iterator[int]:
        engine.defaults, engine.processor = {}, media_processor
        pictures = [{"type": "image", "image": name} for name in "ab"]
        yield engine.count(Asked([{"role": "user", "content": pictures}]))

    held = Held()
    worker.submit(held)
    job = worker.submit(look)
    held.go_on.set()
    assert items(job) == [] and seen == ["a"]


def test_an_answer_that_nobody_waits_for(worker) -> None:
    given: list[int] = []

    def endless(engine: Engine) -> Iterator[int]:
        while True:
            given.append(1)
            yield 1

    job = worker.submit(endless)
    job.take(10)
    job.cancel()
    items(job)
    count = len(given)
    assert items(worker.submit(numbers)) == [1, 2, 3]
    assert len(given) == count


def test_one_that_left_while_it_waited(worker) -> None:
    held, other = Held(), Held()
    first, second = worker.submit(held), worker.submit(other)
    second.cancel()
    held.go_on.set()
    assert items(first) == ["one", "two"] and items(second) == []
    assert not other.begun.is_set()


def test_those_who_left_take_no_place_in_line(worker) -> None:
    held, kept = Held(), Held()
    first = worker.submit(held)
    held.begun.wait(10)
    for job in [worker.submit(kept) for _ in range(2)]:
        job.cancel()
        assert job.work is not kept  # nor memory
    waiting = worker.submit(numbers)
    held.go_on.set()
    assert items(first) == ["one", "two"] and items(waiting) == [1, 2, 3]
    assert not kept.begun.is_set()


def test_one_that_comes_as_the_worker_stops() -> None:
    worker = Worker()
    worker.stop()
    worker._stopping = False  # as `submit` saw it before
    job = worker.submit(numbers)
    worker.run(Idle())
    with pytest.raises(Refused, match="stopping"):
        items(job)


def test_stopping_lets_what_runs_come_to_its_end(worker) -> None:
    held = Held()
    first, second = worker.submit(held), worker.submit(numbers)
    held.begun.wait(10)
    worker.stop()
    held.go_on.set()
    assert items(first) == ["one", "two"]
    for refused in (lambda: items(second), lambda: worker.submit(numbers)):
        with pytest.raises(Refused, match="stopping"):
            refused()


def test_stopping_at_once_tells_who_waits(worker) -> None:
    held = Held()
    job = worker.submit(held)
    held.begun.wait(10)
    worker.stop(at_once=True)
    held.go_on.set()
    with pytest.raises(Refused, match="stopping"):
        items(job)
    assert held.closed


def test_several_at_once() -> None:
    """One that goes on for ever keeps nobody waiting, and leaves when it is told."""
    engine = Idle()
    engine.rows = 2
    worker = Worker()
    thread = threading.Thread(target=worker.run, args=(engine,))
    thread.start()
    endless = worker.submit(lambda engine: iter(int, 1))
    assert endless.take(10) == 0
    assert [items(worker.submit(numbers)) for _ in range(3)] == [[1, 2, 3]] * 3
    endless.cancel()
    items(endless)
    worker.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_one_that_gives_way_as_another_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told so, and the next one is answered."""
    left = threading.Event()

    def share(batch: Batch) -> None:
        for row in batch._rows if left.is_set() else ():
            row.error, row.ended = GaveWay(), True

    def leave(engine: Engine) -> Iterator[int]:
        yield 1
        left.set()

    monkeypatch.setattr(Batch, "_share", share)
    engine, worker = Idle(), Worker()
    engine.rows = 2
    first, second = worker.submit(leave), worker.submit(lambda engine: iter(int, 1))
    thread = threading.Thread(target=worker.run, args=(engine,))
    thread.start()
    assert items(first) == [1]
    with pytest.raises(GaveWay):
        while second.take(10) is not None:
            pass
    monkeypatch.undo()
    assert items(worker.submit(numbers)) == [1, 2, 3]
    worker.stop()
    thread.join(10)
    assert not thread.is_alive()
