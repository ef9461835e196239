"""Who may ask."""

from email.message import Message

import pytest

from mlx_gemma4.cli.errors import InputError, UsageError
from mlx_gemma4.cli.serve.errors import Refused
from mlx_gemma4.cli.serve.guard import Guard
from mlx_gemma4.cli.serve.opening import VARIABLE, guard_for, listen, media_rules

PAGE = "http://localhost:3000"


def headers(**named: str) -> Message:
    message = Message()
    for name, value in named.items():
        message[name.replace("_", "-")] = value
    return message


def refusal(guard: Guard, **named: str) -> int:
    with pytest.raises(Refused) as error:
        guard.check(headers(**named))
    return error.value.status


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8080", "LOCALHOST.", "127.0.0.1:8080", "[::1]:8080"),
        *("127.1.2.3", "app.localhost:1", "host.docker.internal:8080"),
    ],
)
def test_names_of_this_machine(host) -> None:
    Guard().check(headers(Host=host))


@pytest.mark.parametrize(
    "host",
    ["evil.com", "localhost.evil.com", "192.168.0.3:8080", "[", "", "127.0.0.1.nip.io"],
)
def test_foreign_names(host) -> None:
    assert refusal(Guard(), Host=host) == 403
    Guard(key="k").check(headers(Host=host, Authorization="Bearer k"))


def test_two_names() -> None:
    message = headers(Host="localhost")
    message["Host"] = "evil.com"
    with pytest.raises(Refused):
        Guard().check(message)


@pytest.mark.parametrize("origin", ["http://evil.com", "null", f"{PAGE}.evil.com", ""])
def test_foreign_pages(origin) -> None:
    guard = Guard(origins=frozenset({PAGE}))
    assert refusal(guard, Host="localhost", Origin=origin) == 403
    assert not guard.cors(headers(Origin=origin))


def test_pages_that_are_let_in() -> None:
    guard = guard_for("127.0.0.1", None, [f"{PAGE}/"])
    guard.check(headers(Host="localhost", Origin=PAGE))
    told = guard.cors(
        headers(Origin=PAGE, Access_Control_Request_Headers="x-a\r\nb: c")
    )
    assert told["Access-Control-Allow-Origin"] == PAGE
    assert "\n" not in told["Access-Control-Allow-Headers"]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "secret"},
        {"x_api_key": ""},
        {"Authorization": "Bearer \xffsecret"},
    ],
)
def test_a_key_is_missing_or_wrong(given) -> None:
    assert refusal(Guard(key="secret"), **given) == 401


def test_the_right_key() -> None:
    for given in (
        {"Authorization": "bearer secret"},
        {"x_api_key": "secret"},
        {"Authorization": "Bearer secret", "x_api_key": "sk-of-another-server"},
        {"Authorization": "Bearer other", "x_api_key": "secret"},
    ):
        Guard(key="secret").check(headers(**given))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.3", "mac.local", "::"])
def test_other_machines_need_a_key(host, monkeypatch, tmp_path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(UsageError, match="--api-key"):
        guard_for(host, None, [])
    (tmp_path / "key").write_text("secret\n")
    assert guard_for(host, tmp_path / "key", []).key == "secret"
    monkeypatch.setenv(VARIABLE, "other")
    assert guard_for(host, None, ["*"]).key == "other"
    assert guard_for(host, tmp_path / "key", []).key == "secret"


@pytest.mark.parametrize("text", ["", "\n", "two words", "a\nb", "schlüssel"])
def test_a_key_that_is_none(text, tmp_path) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(InputError, match="must be one line"):
        guard_for("127.0.0.1", tmp_path / "key", [])
    with pytest.raises(InputError, match="--api-key names a file"):
        guard_for("127.0.0.1", tmp_path / "missing", [])


@pytest.mark.parametrize("origin", ["*", "null", "localhost:3000", "http://a/b"])
def test_pages_that_cannot_be_let_in(origin, monkeypatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(UsageError, match="--allow-origin"):
        guard_for("127.0.0.1", None, [origin])


def test_a_port_that_is_taken(tmp_path) -> None:
    with listen("127.0.0.1", 0) as server:
        with pytest.raises(UsageError, match="Another --port may be free"):
            listen("127.0.0.1", server.server_port)
    with pytest.raises(UsageError, match="Cannot listen"):
        listen("no.such.host.invalid", 0)
    with pytest.raises(UsageError, match="is no folder"):
        media_rules([tmp_path / "missing"], False)
