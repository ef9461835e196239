"""Keeps what libmpg123 writes to stderr by itself away from there."""

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator

STDERR = 2
ITS_LINES = re.compile(
    rb"(Note|Warning): .*(Audio-MPEG|resync|Skipped|Xing|reservoir|LAME|ID3|bitrate|"
    rb"frame|stream).*|\[.*libmpg123/.*|Frankenstein.*"
)
_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def without_its_lines() -> Iterator[None]:
    """Within, stderr goes to a file; the lines of others in it are passed on at the
    end. libsndfile opens libmpg123 without its option to be quiet."""
    with _one_at_a_time, tempfile.TemporaryFile() as kept:
        try:
            stderr = os.dup(STDERR)
        except OSError:  # closed: nothing can reach it
            yield
            return
        os.dup2(kept.fileno(), STDERR)
        try:
            yield
        finally:
            os.dup2(stderr, STDERR)
            os.close(stderr)
            kept.seek(0)
            for line in kept:
                if not ITS_LINES.fullmatch(line.strip()):
                    os.write(STDERR, line)
