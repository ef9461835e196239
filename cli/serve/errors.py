"""What a client is told where its request is not answered."""

import sys
import traceback

from mlx_gemma4 import errors

from ..errors import MEMORY, InputError, UsageError, exit_code, wants_tracebacks

INVALID = "invalid_request_error"
BUSY = "rate_limit_error"
FAILED = "server_error"


class Refused(Exception):
    """A request that is not answered. Each protocol writes it in its own words.

    status: of HTTP. type, param, code: as in OpenAI's errors. retry_after: in seconds.
    counts: of a prompt that is too long, as `ContextError` has them.
    """

    def __init__(
        self,
        status: int,
        message: str,
        type: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
        counts: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.type = status, message, type
        self.param, self.code, self.retry_after = param, code, retry_after
        self.counts = counts


def refused(error: Exception) -> Refused:
    """What a client is told of an error; one that is not its own is noted on stderr."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, errors.ContextError):
        return Refused(
            400,
            str(error),
            param="messages",
            code="context_length_exceeded",
            counts=error.counts,
        )
    if isinstance(error, errors.ChatError | UsageError):
        return Refused(400, str(error))
    if isinstance(error, errors.MediaError | errors.DataError | InputError):
        return Refused(400, str(error), code="invalid_media")
    if wants_tracebacks():
        traceback.print_exception(error)
    if isinstance(error, errors.RoomError):
        return Refused(503, str(error), FAILED, code="memory")
    if exit_code(error) == MEMORY:
        return Refused(
            503, "There is not enough memory for this.", FAILED, code="memory"
        )
    said = f"{type(error).__name__}: {error}"
    print(f"gemma4: {said!r}"[:500], file=sys.stderr, flush=True)
    return Refused(500, "The server failed: its own output says at what.", FAILED)
