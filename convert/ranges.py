"""Parts of the Hub's files, read by HTTP ranges.

The Hub sends on to a storage, by an address that is good for a while; once the storage
refuses it, the Hub is asked anew. A user's token goes to the Hub and nowhere else.
"""

import time
from collections.abc import Callable, Iterator
from threading import Event, Lock
from typing import Any
from urllib.parse import urljoin, urlsplit

from mlx_gemma4.errors import CheckpointError, ModelNotFoundError
from mlx_gemma4.hub.cache import HubFile
from mlx_gemma4.hub.refusals import first_line, refusal
from mlx_gemma4.hub.transfer import WAITS

Response = Any  # of the Hub's library, whose network stack has other names by release

SILENCE = 15.0  # seconds without a byte after which a connection is lost
TURNS = 4  # how often a file may lie elsewhere before that is a loss as well
QUIET = 30.0  # seconds between two notes of losses: several connections break at once
WHOLE, PART, NO_PART = 200, 206, 416
MOVED = (301, 302, 303, 307, 308)
REFUSED = (401, 403, 404, 410)  # by a storage: the address may be too old


class Stopped(Exception):
    """Nobody waits for the bytes any more."""


class Elsewhere(Exception):
    """The file has another address by now: to be tried at once."""


class Ranges:
    """Reads parts of a repository's files at one commit, in any number of threads.

    note: told of connections that are lost.
    """

    def __init__(
        self, repo: str, commit: str, note: Callable[[str], None] = lambda text: None
    ) -> None:
        self._repo, self._commit, self._note = repo, commit, note
        self._urls: dict[HubFile, str] = {}  # in the storage
        self._tags: dict[tuple[HubFile, str], str] = {}  # what a storage calls a file
        self._noted = -QUIET
        self._stopped, self._lock = Event(), Lock()

    def stop(self) -> None:
        """Ends all that is being read with `Stopped`."""
        self._stopped.set()

    def read(self, file: HubFile, start: int, count: int) -> bytearray:
        """`count` bytes from `start` on. What came before a loss is not read again.

        Raises CheckpointError for a file that changed, ModelNotFoundError where the
        Hub refuses it, or is out of reach for half a minute.
        """
        data, losses, turns = bytearray(), 0, 0
        while len(data) < count:
            before, problem = len(data), "it ended early"
            try:
                for chunk in self._stream(file, start + before, start + count):
                    room = count - len(data)
                    data += chunk[:room]
                    if len(chunk) > room:  # it may have no end
                        break
            except (CheckpointError, ModelNotFoundError, Stopped):
                raise
            except Elsewhere as error:
                problem, turns = str(error), turns + 1
                if turns < TURNS:
                    continue
            except Exception as error:  # the network stack's own differ by release
                problem = first_line(error).rstrip(".")
            if len(data) < count:
                losses = 1 if len(data) > before else losses + 1
                self._wait(losses, problem)
        return data

    def _wait(self, losses: int, problem: str) -> None:
        if losses > len(WAITS):
            raise ModelNotFoundError(
                f"The connection to the Hub was lost ({problem}) and did not come "
                "back: check the network."
            )
        with self._lock:
            now = time.monotonic()
            first, self._noted = now - self._noted > QUIET, now
        if first:
            self._note(f"The connection was lost ({problem}): trying again.")
        if self._stopped.wait(WAITS[losses - 1]):
            raise Stopped

    def _stream(self, file: HubFile, start: int, end: int) -> Iterator[bytes]:
        from huggingface_hub import get_session, hf_hub_url

        asked = hf_hub_url(self._repo, file.name, revision=self._commit)
        url = self._urls.get(file, asked)
        part = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        with get_session().stream(
            "GET",
            url,
            headers=_headers(url, asked) | part,
            timeout=SILENCE,
            follow_redirects=False,
        ) as answer:
            if _is_at(url, asked):
                self._check_hub(file, answer)
            self._check_place(file, url, answer)
            self._check_part(file, url, answer, (start, end))
            for chunk in answer.iter_raw():
                if self._stopped.is_set():
                    raise Stopped
                yield chunk

    def _check_hub(self, file: HubFile, answer: Response) -> None:
        """That the Hub still has the same file."""
        from huggingface_hub import hf_raise_for_status

        try:
            if answer.status_code not in MOVED:
                hf_raise_for_status(answer)
        except Exception as error:
            if text := refusal(error, self._repo, self._commit):
                raise ModelNotFoundError(text) from None
            raise
        tag = answer.headers.get("x-linked-etag") or answer.headers.get("etag")
        if tag is not None and _bare(tag) != file.digest:
            raise self._changed(file)

    def _check_place(self, file: HubFile, url: str, answer: Response) -> None:
        """That the file lies at `url`. Raises Elsewhere."""
        status, place = answer.status_code, answer.headers.get("location")
        if status in MOVED and place:
            self._urls[file] = urljoin(url, place)
            raise Elsewhere("the file is sent from place to place")
        if status in REFUSED:
            self._urls.pop(file, None)
            raise Elsewhere(f"the storage answered {status}")

    def _check_part(
        self, file: HubFile, url: str, answer: Response, part: tuple[int, int]
    ) -> None:
        """That what comes is the part that was asked for, of the same file."""
        status, host = answer.status_code, urlsplit(url).netloc
        if status == NO_PART:
            raise self._changed(file)
        if status not in (WHOLE, PART):
            raise ConnectionError(f"{host} answered {status}")
        if status == WHOLE and part != (0, file.size):
            raise CheckpointError(
                f"{host} does not send parts of files: download all of {self._repo} "
                f"with `hf download {self._repo}` before."
            )
        said = answer.headers.get("content-range", "")
        if status == PART and said != f"bytes {part[0]}-{part[1] - 1}/{file.size}":
            raise self._changed(file)
        tag = _bare(answer.headers.get("etag", ""))
        if tag and self._tags.setdefault((file, host), tag) != tag:
            raise self._changed(file)

    def _changed(self, file: HubFile) -> CheckpointError:
        return CheckpointError(
            f"{file.name} of {self._repo} changed at the Hub since it was listed."
        )


def _bare(tag: str) -> str:
    return tag.removeprefix("W/").strip('"')


def _is_at(url: str, hub: str) -> bool:
    return urlsplit(url)[:2] == urlsplit(hub)[:2]


def _headers(url: str, hub: str) -> dict[str, str]:
    """With what lets a user read gated files, for the Hub alone."""
    from huggingface_hub.utils import build_hf_headers

    return build_hf_headers(token=None if _is_at(url, hub) else False)
