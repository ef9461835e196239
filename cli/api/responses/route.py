"""`/v1/responses`: what Codex speaks, and the newer half of OpenAI's clients."""

from ...serve.errors import Refused, refused
from ...serve.exchange import Exchange, Gone
from ...serve.routes import Route, Service
from ..chat import noted
from .asked import Request, read_request
from .kept import Kept
from .reply import Reply
from .written import Event, Written


class Responses:
    """Answers; what it said is kept so that clients can go on with it by its id."""

    def __init__(self) -> None:
        self._kept = Kept()

    def create(self, exchange: Exchange, service: Service) -> None:
        body = exchange.json()
        request = read_request(body, service.media, self._kept)
        written = Written(request.declared.names, request.summarized, request.sealed)
        reply = Reply(body, request.declared, written, service.name)
        try:
            self._tell(exchange, service, request, reply)
        except Gone:
            raise
        except Exception as error:
            if not exchange.begun:
                raise
            _send(exchange, reply.fail(refused(error)))
            return
        exchange.noted = _noted(request, reply)
        if not request.streams:
            exchange.reply_json(200, reply.response)
        if request.keeps:
            items = [*request.items, *written.items]
            self._kept.keep(reply.response["id"], items)

    def _tell(
        self, exchange: Exchange, service: Service, request: Request, reply: Reply
    ) -> None:
        """Follows the answer to its end, and tells a client that streams."""
        job = service.worker.submit(lambda engine: engine.answer(request.asked))

        def beat() -> None:  # Codex passes over comments, and then takes it for dead
            _send(exchange, reply.wait())

        for chunk in exchange.items(job, request.streams, beat):
            events = reply.take(chunk)
            if request.streams:
                _send(exchange, events)
            if chunk.finish_reason is not None:
                return  # clients go once they have it, which is no breaking off
        raise Refused(500, "The answer broke off.", "server_error")


def _send(exchange: Exchange, events: list[Event]) -> None:
    for event in events:
        exchange.event(event, event["type"])


def _noted(request: Request, reply: Reply) -> str:
    said = [noted(reply.stats)] if reply.stats else []
    if left_out := ", ".join(request.declared.left_out):
        said.append(f"without the tool {left_out}, which nobody runs here")
    return "; ".join(said)


ROUTES = (Route("POST", "/responses", Responses().create),)
