"""Fetching a model from the Hub, so that Ctrl-C ends it at once and nothing is lost."""

from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from .cache import HubFile, distinct
from .offer import Offer
from .transfer import Transfer

WORKERS = 8  # files at a time
# Bytes that came, a note, why a thread failed, or None at its end.
Event = int | str | Exception | None


def download(
    offer: Offer,
    advance: Callable[[int], object] = lambda _: None,
    note: Callable[[str], object] = lambda _: None,
) -> Path:
    """Fetches what lacks of a model into the Hub's cache; returns its folder.

    advance: is told of the bytes that come, `offer.to_fetch` in all; note: of a
        connection that was lost and is made anew. Both are called by this thread.

    It can be stopped at any moment and goes on where it was: every byte is fetched
    once.

    Raises ModelNotFoundError, CheckpointError for what came damaged, DiskFullError and
    BusyError.
    """
    events: SimpleQueue[Event] = SimpleQueue()
    files: SimpleQueue[HubFile] = SimpleQueue()
    lacking = [f for f in distinct(offer.files) if not offer.cache.is_here(f)]
    for file in sorted(lacking, key=lambda file: -file.size):
        files.put(file)
    transfer = Transfer(offer.repo, offer.cache, events.put, events.put)
    try:
        running = min(WORKERS, len(lacking))
        for _ in range(running):  # none keeps the process from ending
            Thread(target=_work, args=(files, transfer, events), daemon=True).start()
        while running:
            running -= _told(events.get(), advance, note)
    finally:
        transfer.stop()
    for file in offer.files:  # the names come when all is there
        offer.cache.link(file)
    offer.cache.point(offer.revision)
    return offer.cache.snapshot


def _work(
    files: SimpleQueue[HubFile], transfer: Transfer, events: SimpleQueue[Event]
) -> None:
    try:
        while True:
            transfer.fetch(files.get_nowait())
    except Empty:
        events.put(None)
    except Exception as error:
        events.put(error)


def _told(
    event: Event, advance: Callable[[int], object], note: Callable[[str], object]
) -> bool:
    """Passes on what a thread says; returns whether that was its last word."""
    if event is None:
        return True
    if isinstance(event, Exception):
        raise event
    if isinstance(event, int):
        advance(event)
    else:
        note(event)
    return False
