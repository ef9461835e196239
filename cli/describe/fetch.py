"""Pictures and videos from the web: only over http(s), only when the user said so."""

import http.client
import socket
import string
import time
import urllib.error
import urllib.parse
import urllib.request
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

from mlx_gemma4 import __version__
from mlx_gemma4.reading.sources import is_url

from ..errors import InputError

LARGEST = 100_000_000  # bytes
WAIT = 20.0  # seconds for a server to say anything
LONGEST = 300.0  # seconds for a whole file
PIECE = 1 << 16
# What servers call media, or files of which they know nothing.
TYPES = (
    *("image/", "video/", "application/pdf"),
    *("application/octet-stream", "binary/octet-stream"),
)
# Addresses of IPv6 whose last bytes are one of IPv4: translated ones, and old ones.
EMBEDDING = (IPv6Network("64:ff9b::/96"), IPv6Network("::/96"))
REMEDY = "Check the address, or download the file and name that."


class OnlyWeb(urllib.request.HTTPRedirectHandler):
    """Follows redirects within the web, not to ftp."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not is_url(newurl):
            fp.close()
            raise urllib.error.URLError("it redirects away from the web")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def connect_publicly(
    address: tuple[str, int], *arguments: Any, **options: Any
) -> socket.socket:
    """A connection, if it leads out of this machine and its network. Nothing within
    them is even tried: who asks would learn what listens there. The name is looked up
    once, so that it cannot stand for something else a moment later."""
    host, port = address
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    for each in addresses:
        if not is_public(each):
            raise OSError(f"{each} is an address of this machine or network")
    failed = OSError("its name has no address")
    for each in addresses:
        try:
            return socket.create_connection((each, port), *arguments, **options)
        except OSError as error:
            failed = error
    raise failed


def is_public(address: str) -> bool:
    """Whether everybody can reach it, as one of IPv4 that stands in it as well."""
    found = ip_address(address.partition("%")[0])
    inner: list[IPv4Address | None] = []
    if isinstance(found, IPv6Address):
        if found.is_site_local:
            return False
        inner = [found.ipv4_mapped, found.sixtofour]
        if any(found in network for network in EMBEDDING):
            inner.append(IPv4Address(found.packed[-4:]))
    every = [each for each in inner if each is not None] or [found]
    return all(each.is_global and not each.is_multicast for each in every)


class PublicHTTP(http.client.HTTPConnection):
    def connect(self) -> None:
        self._create_connection = connect_publicly
        super().connect()


class PublicHTTPS(http.client.HTTPSConnection):
    def connect(self) -> None:
        self._create_connection = connect_publicly
        super().connect()


class PublicHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(PublicHTTP, req)


class PublicSecureHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(PublicHTTPS, req)


NO_PROXY = urllib.request.ProxyHandler({})
PUBLIC = (PublicHandler, PublicSecureHandler, NO_PROXY)


def fetch(
    url: str,
    largest: int = LARGEST,
    wait: float = WAIT,
    longest: float = LONGEST,
    public: bool = False,
) -> bytes:
    """The file at `url`, at most `largest` bytes.

    Gives up when the server is silent for `wait` seconds or not done after `longest`.
    public: only from addresses that everybody can reach, through no proxy.
    Raises InputError that names the URL: unreachable, not there, too large, too slow,
    neither a picture nor a video.
    """
    headers = {"User-Agent": f"gemma4/{__version__}"}
    try:
        request = urllib.request.Request(escaped(url), headers=headers)
        opener = urllib.request.build_opener(OnlyWeb, *(PUBLIC if public else ()))
        with opener.open(request, timeout=wait) as answer:
            return read(answer, url, largest, longest)
    except urllib.error.HTTPError as error:
        error.close()
        said = f"{error.code} {error.reason}".strip()
        raise InputError(f"{url}: the server says {said}. {REMEDY}") from None
    except TimeoutError:
        raise InputError(f"{url}: no answer for {wait:g} s. {REMEDY}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "reason", None) or error
        reason = getattr(reason, "strerror", None) or reason
        raise InputError(f"{url} cannot be fetched: {reason}. {REMEDY}") from None


def escaped(url: str) -> str:
    """`url` as servers take it: blanks and letters beyond ASCII as browsers send them.

    What is escaped already stays as it is. Raises ValueError for what is no URL.
    """
    parts = urllib.parse.urlsplit(url)
    path, query = (
        urllib.parse.quote(part, safe=string.punctuation)
        for part in (parts.path, parts.query)
    )
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def read(answer: Any, url: str, largest: int, longest: float) -> bytes:
    """The body of a server's answer, checked before and while it is read."""
    kind = answer.headers.get_content_type()
    # Of what bears no type that would be text/plain. Its first bytes tell, later.
    stated = "/" in answer.headers.get("Content-Type", "")
    if stated and not kind.startswith(TYPES):
        raise InputError(f"{url} is {kind}, neither a picture nor a video. {REMEDY}")
    stated = answer.headers.get("Content-Length")
    expected = int(stated) if stated and stated.isdigit() else None
    until = time.monotonic() + longest
    data = bytearray()
    while (expected or 0) <= largest and len(data) <= largest:
        if time.monotonic() > until:
            raise InputError(f"{url}: not complete after {longest:g} s. {REMEDY}")
        piece = answer.read1(PIECE)
        if piece:
            data += piece
            continue
        if expected is not None and len(data) < expected:
            raise InputError(f"{url}: the connection broke off. {REMEDY}")
        return bytes(data)
    size = f"{largest / 1e6:g} MB"
    raise InputError(f"{url} is larger than {size}. Download it and name the file.")
