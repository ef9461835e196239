"""Lines of OpenAI's batch files, and their answers in the same shape.

What reads OpenAI's output reads these: `response` is what /v1/chat/completions would
reply. A line that failed has an `error` beside it, for there is one file of answers.
"""

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..api.chat import completion, new_reply
from ..errors import FORM, INPUT, MEMORY, USAGE
from ..serve.errors import FAILED, INVALID, Refused
from ..serve.routes import openai_error

if TYPE_CHECKING:
    from mlx_gemma4 import Response

ENVELOPE = {"custom_id", "method", "url", "body"}
STATUS = {USAGE: 400, INPUT: 400, MEMORY: 503}  # of HTTP, by exit code


def is_enveloped(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value.keys() & {"method", "url", "body"})


def enveloped(
    names: Mapping[str, Any],
    said: "Response",
    model: str,
    problem: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The answer to a line. names: what it is known by. problem: why it failed, with
    the exit `code` that it would have alone."""
    error = problem and _error(problem)
    if said.stats and (error is None or error["exit_code"] == FORM):
        status, body = 200, completion(new_reply(model), said)
    else:
        assert error is not None
        status = STATUS.get(error["exit_code"], 500)
        body = openai_error(Refused(status, error["message"], error["code"]))
    request = {"status_code": status, "request_id": f"req_{secrets.token_hex(12)}"}
    return {
        "id": f"batch_req_{secrets.token_hex(12)}",
        "custom_id": names["id"],
        **{name: value for name, value in names.items() if name != "id"},
        "response": {**request, "body": body},
        "error": error,
        "seed": said.stats and said.stats.seed,
    }


def _error(problem: Mapping[str, Any]) -> dict[str, Any]:
    code = problem["code"]
    message = " ".join(filter(None, (problem["message"], problem["hint"])))
    kind = INVALID if STATUS.get(code) == 400 else FAILED
    kind = "form_not_reached" if code == FORM else kind
    return {"code": kind, "message": message, "exit_code": code}
