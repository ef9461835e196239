"""Forms with files in them, as `multipart/form-data` has them."""

from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser

from .errors import Refused

MOST = 100  # fields
HEADERS = 8192  # bytes of those of a field
PLAIN = ("7bit", "8bit", "binary")


@dataclass(frozen=True)
class Field:
    """file: the name of the file that it holds, None for a plain value."""

    name: str
    data: bytes
    file: str | None = None

    @property
    def text(self) -> str:
        try:
            return self.data.decode("utf-8")
        except UnicodeDecodeError:
            raise Refused(400, f"{self.name} is no text in UTF-8.") from None


def fields_of(body: bytes, headers: Message) -> list[Field]:
    """The fields of a form, in order. headers: of the request. Raises Refused."""
    kind = headers.get_content_type()
    if kind != "multipart/form-data":
        raise Refused(415, f"The request must be multipart/form-data, not {kind}.")
    boundary = headers.get_param("boundary")
    if not isinstance(boundary, str) or not (boundary.isascii() and boundary):
        raise _damaged("no boundary is stated")
    fields = []
    for start, end in _stretches(body, b"--" + boundary.encode()):
        if len(fields) == MOST:
            raise Refused(400, f"The form has more than {MOST} fields.")
        fields.append(_field(body, start, end))
    return fields


def _stretches(body: bytes, mark: bytes) -> Iterator[tuple[int, int]]:
    """Where each field begins and ends."""
    at = 0 if body.startswith(mark) else body.find(b"\r\n" + mark) + 2
    if at == 1 or not body.startswith(mark, at):
        raise _damaged("its boundary is not in it")
    at += len(mark)
    while not body.startswith(b"--", at):
        if (start := body.find(b"\r\n", at)) < 0 or body[at:start].strip(b" \t"):
            raise _damaged("a boundary goes on")
        end = body.find(b"\r\n" + mark, start)
        if end < 0:
            raise _damaged("it has no end")
        yield start + 2, end
        at = end + 2 + len(mark)


def _field(body: bytes, start: int, end: int) -> Field:
    # A field without headers begins with the empty line that follows them.
    stop = body.find(b"\r\n\r\n", max(start - 2, 0), min(end, start + HEADERS))
    if stop < 0:
        raise _damaged("a field's headers have no end")
    head = BytesHeaderParser().parsebytes(body[start:stop])
    name = head.get_param("name", header="content-disposition")
    if not isinstance(name, str):
        raise _damaged("a field has no name")
    coding = head.get("Content-Transfer-Encoding", "binary").strip().lower()
    if coding not in PLAIN:
        raise Refused(400, f"{name} is in {coding[:40]!r}: send it as it is.")
    return Field(name, body[stop + 4 : end], head.get_filename())


def _damaged(why: str) -> Refused:
    return Refused(400, f"The form is damaged: {why}.")
