"""The model that is served, and whether the server is well."""

from datetime import UTC, datetime

from ..serve.errors import Refused
from ..serve.exchange import Exchange
from ..serve.routes import Route, Service


def described(service: Service) -> dict[str, object]:
    """As clients of OpenAI's API, of vLLM's and of Anthropic's read it."""
    created = datetime.fromtimestamp(service.created, UTC)
    return {
        "id": service.name,
        "object": "model",
        "created": service.created,
        "owned_by": "google",
        "max_model_len": service.context,
        "type": "model",
        "display_name": service.name,
        "created_at": created.isoformat(),
        "max_input_tokens": service.context,
    }


def listed(exchange: Exchange, service: Service) -> None:
    pages = {"has_more": False, "first_id": service.name, "last_id": service.name}
    found = {"object": "list", "data": [described(service)]}
    exchange.reply_json(200, found | pages)


def one(exchange: Exchange, service: Service) -> None:
    name = exchange.path.removeprefix("/models/")
    if name != service.name:
        raise Refused(
            404,
            f"There is no model {name[:100]!r} here, only {service.name!r}.",
            code="model_not_found",
        )
    exchange.reply_json(200, described(service))


def health(exchange: Exchange, service: Service) -> None:
    exchange.reply_json(200, {"status": "ok"})


ROUTES = (
    Route("GET", "/models", listed),
    Route("GET", "/models/", one),
    Route("GET", "/health", health),
)
