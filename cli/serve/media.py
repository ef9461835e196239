"""Pictures, recordings and videos in requests: what a client may have read."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mlx_gemma4.media import Kind
from mlx_gemma4.reading.sources import data_of, from_base64, is_data_url, is_url

from .errors import Refused


@dataclass(frozen=True)
class MediaRules:
    """folders: resolved; files in them may be read. urls: whether the web may.
    base: where relative paths begin. fetched: sizes of what one request had from the
    web."""

    folders: tuple[Path, ...] = ()
    urls: bool = False
    base: Path = Path()
    fetched: list[int] = field(default_factory=list)

    def anew(self) -> "MediaRules":
        """For another request."""
        return replace(self, fetched=[])

    def from_url(self, kind: Kind, url: Any, param: str) -> dict[str, Any]:
        """A message part of what `url` names: a data URL, a file's path or URL, or an
        address in the web. Raises Refused, and MediaError for base64 that is none.

        param: where in the request it stands, for messages.
        """
        if not isinstance(url, str) or not url:
            raise Refused(400, f"{param} must be a URL.", param=param)
        if is_data_url(url):
            content: bytes | Path = data_of(url, f"The {kind} in {param}")
        elif is_url(url):
            content = self._fetched(kind, url, param)
        else:
            content = self._file(kind, url, param)
        return {"type": kind, kind: content}

    def from_base64(self, kind: Kind, data: Any, param: str) -> dict[str, Any]:
        """A message part of what `data` holds: base64, or a data URL of it."""
        if isinstance(data, str) and is_data_url(data):
            return self.from_url(kind, data, param)
        if not isinstance(data, str) or not data:
            raise Refused(400, f"{param} must be base64.", param=param)
        return {"type": kind, kind: from_base64(data, f"The {kind} in {param}")}

    def _fetched(self, kind: Kind, url: str, param: str) -> bytes:
        if not self.urls:
            raise Refused(
                403,
                f"The {kind} in {param} is a URL in the web, which is only fetched "
                "with --allow-url. Send it as a data URL.",
                param=param,
            )
        from ..describe.fetch import LARGEST, fetch

        data = fetch(url, LARGEST - sum(self.fetched), public=True)
        self.fetched.append(len(data))
        return data

    def _file(self, kind: Kind, url: str, param: str) -> Path:
        """A file, if it lies in one of the folders once all links are followed."""
        parts = urlsplit(url)
        if parts.scheme == "file":
            if parts.netloc not in ("", "localhost"):
                raise Refused(400, f"{param} names a file elsewhere.", param=param)
            url = unquote(parts.path)
        elif parts.scheme and len(parts.scheme) > 1:
            raise Refused(
                400, f"{param}: {parts.scheme[:20]!r} URLs are not read.", param=param
            )
        try:
            path = (self.base / url).resolve()
        except (OSError, ValueError, RuntimeError):
            path = None
        # Whether a file exists is not told of those that may not be read.
        if path is None or not any(path.is_relative_to(f) for f in self.folders):
            raise Refused(
                403,
                f"The {kind} in {param} is a file, which this server reads only in "
                "folders that --allow-files named. Send it as a data URL.",
                param=param,
            )
        if not path.is_file():
            raise Refused(400, f"{param}: there is no file {path}.", param=param)
        return path
