"""Forms with files, as clients write them and as they may be broken."""

from email.message import Message
from random import Random

import pytest

from mlx_gemma4.cli.serve.errors import Refused
from mlx_gemma4.cli.serve.multipart import MOST, Field, fields_of

FORM = (
    b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nany\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a b.wav"\r\n'
    b"Content-Type: audio/wav\r\n\r\n\r\n--xy\r\n--\r\n\r\n--x--\r\n"
)
VALUE = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'


def headers(kind: str = "multipart/form-data; boundary=x") -> Message:
    made = Message()
    made["Content-Type"] = kind
    return made


def test_fields_and_files():
    """A file may hold what looks like a boundary, but for its line."""
    form = FORM.replace(b"--xy", b"- -x")
    assert fields_of(form, headers()) == [
        Field("model", b"any"),
        Field("file", b"\r\n- -x\r\n--\r\n", "a b.wav"),
    ]


def test_what_stands_before_and_behind_is_passed_over():
    form = b"for old mail readers\r\n" + VALUE + b"--x--\r\nand behind"
    assert fields_of(form, headers('multipart/form-data; boundary="x"')) == [
        Field("a", b"1")
    ]


def test_no_fields():
    assert fields_of(b"--x--", headers()) == []


@pytest.mark.parametrize(
    ("form", "told"),
    [
        (b"", "its boundary is not in it"),
        (b"--y\r\n", "its boundary is not in it"),
        (b"a--x--", "its boundary is not in it"),
        (b"--x", "a boundary goes on"),
        (FORM, "a boundary goes on"),
        (VALUE, "it has no end"),
        (b"--x\r\nname: x\r\n--x--", "headers have no end"),
        (b"--x\r\n\r\n\r\n--x--", "a field has no name"),
        (b"--x\r\n" + b"a: b\r\n" * 2000 + b"\r\n\r\n--x--", "headers have no end"),
        (VALUE * (MOST + 1) + b"--x--", f"more than {MOST} fields"),
        (VALUE.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n")
         + b"--x--", "a is in 'base64'"),
    ],
)  # fmt: skip
def test_a_damaged_form_is_refused(form: bytes, told: str):
    with pytest.raises(Refused, match=told) as refused:
        fields_of(form, headers())
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=ä", "text/plain"]
)
def test_another_kind_is_refused(kind: str):
    with pytest.raises(Refused):
        fields_of(FORM, headers(kind))


def test_whatever_comes_is_read_or_refused():
    rng, whole = Random(1), VALUE + FORM.replace(b"--xy", b"xy")
    for _ in range(500):
        form = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(form))
            form[at : at + rng.randint(0, 9)] = rng.randbytes(rng.randint(0, 3))
        try:
            fields_of(bytes(form), headers())
        except Refused as refused:
            assert refused.status in (400, 415)


def test_a_value_that_is_no_text():
    with pytest.raises(Refused, match="a is no text"):
        print(Field("a", b"\xff").text)
