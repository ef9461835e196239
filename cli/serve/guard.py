"""Who may ask: not every web page that a browser on this machine shows."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from ipaddress import ip_address
from urllib.parse import urlsplit

from .errors import Refused

# Names that nobody can own on the internet, so that they lead to this machine.
OWN = ("localhost", "host.docker.internal", "host.containers.internal")
ANY = "*"
DENIED = "permission_error"
UNKNOWN = "authentication_error"


@dataclass(frozen=True)
class Guard:
    """host: that of `--host`. key: what clients have to give. origins: of web pages
    that may ask."""

    host: str = "127.0.0.1"
    key: str | None = None
    origins: frozenset[str] = frozenset()

    def check(self, headers: Message, open_to_all: bool = False) -> None:
        """Raises Refused. open_to_all: no key is needed."""
        self._check_host(headers)
        origin = headers.get("Origin")
        if origin is not None and not self.knows(origin):
            raise Refused(
                403,
                f"Web pages of {origin[:100]!r} may not use this server: it takes "
                "those that --allow-origin names.",
                DENIED,
                code="origin",
            )
        if not open_to_all:
            self._check_key(headers)

    def knows(self, origin: str) -> bool:
        return ANY in self.origins or origin.lower().rstrip("/") in self.origins

    def cors(self, headers: Message) -> Mapping[str, str]:
        """What lets a known web page read the reply."""
        origin = headers.get("Origin")
        if origin is None or not self.knows(origin):
            return {}
        named = headers.get("Access-Control-Request-Headers", "*, Authorization")
        return {
            "Access-Control-Allow-Origin": _line(origin),
            "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
            "Access-Control-Allow-Headers": _line(named),
            "Access-Control-Allow-Private-Network": "true",
            "Access-Control-Max-Age": "600",
            "Vary": "Origin",
        }

    def _check_host(self, headers: Message) -> None:
        """A page can let its own name lead to this machine; whoever has the key is
        none of those."""
        named = headers.get_all("Host", [])
        if self.key is not None or not named:
            return
        host = _name(named[0]) if len(named) == 1 else None
        if host is None or not (host in (*OWN, self.host) or is_loopback(host)):
            raise Refused(
                403,
                f"This server is not {named[0][:100]!r}: without a key it is reached "
                "as localhost only.",
                DENIED,
                code="host",
            )

    def _check_key(self, headers: Message) -> None:
        if self.key is None:
            return
        # Clients that were made for other servers give theirs in one of the two.
        given = [headers.get("x-api-key", "")]
        bearer, _, token = headers.get("Authorization", "").partition(" ")
        if bearer.lower() == "bearer":
            given.append(token.strip())
        key = self.key.encode()
        if not any(
            hmac.compare_digest(each.encode("utf-8", "surrogateescape"), key)
            for each in given
        ):
            raise Refused(
                401,
                "The key is missing or wrong: give the one that the server was "
                "started with, as Authorization: Bearer KEY.",
                UNKNOWN,
                code="invalid_api_key",
            )


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine, seen from itself."""
    host = host.lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _name(host: str) -> str | None:
    """Of `localhost:8080` "localhost"."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _line(text: str) -> str:
    return text.replace("\r", "").replace("\n", "")
