"""MCP servers as the command line and the settings name them."""

import os
import sys
from pathlib import Path

import pytest
from typing_in import Typed

from mlx_gemma4.cli.config.file import Configuration, config_file
from mlx_gemma4.cli.errors import UsageError
from mlx_gemma4.cli.tools.servers import chosen_servers
from mlx_gemma4.tools.server import Server

TEXT = """\
[mcp.time]
command = "server-of-time --local-timezone UTC"
trusted = true
tools = ["get_current_time"]
timeout = 5

[mcp.files]
command = "./bin/files"
args = ["--root", "${ROOT}"]
env = { TOKEN = "of mine", OTHER = "${KEY}" }

[mcp.git]
url = "https://me:hush@host/mcp?key=hush"
headers = { Authorization = "Bearer ${KEY}" }
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("GEMMA4_PROMPT_CACHE")
    monkeypatch.setenv("KEY", "k")
    monkeypatch.setenv("ROOT", "/of files")
    path = tmp_path / "gemma4" / "config.toml"
    path.parent.mkdir()
    path.write_text(TEXT)
    return path


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    return Typed(monkeypatch, capsys)


def chosen(*words: str) -> list[Server]:
    return chosen_servers(words, Configuration.read(config_file()))


def test_servers_of_the_settings(file: Path) -> None:
    time, files, git = chosen("time", "files", "git")
    assert time == Server(
        "time",
        ("server-of-time", "--local-timezone", "UTC"),
        trusted=True,
        tools=("get_current_time",),
        timeout=5.0,
    )
    program = str(file.parent / "bin/files")
    assert files.command == (program, "--root", "/of files")
    assert files.env == {"TOKEN": "of mine", "OTHER": "k"}
    assert git.headers == {"Authorization": "Bearer k"}
    assert "secret" not in repr(files) + repr(git.headers) and "of mine" not in repr(
        files
    )


def test_a_variable_that_is_not_set(
    file: Path, monkeypatch: pytest.MonkeyPatch, typed: Typed
) -> None:
    monkeypatch.delenv("ROOT")
    assert chosen("time")  # where it is not asked for, nothing is missing
    with pytest.raises(UsageError, match="line 9: ROOT is not set in the environment"):
        chosen("files")


def test_commands_and_addresses(file: Path) -> None:
    path = sys.executable
    (server,) = chosen(f"'{path}' -m 'a server'")
    assert server.command == (path, "-m", "a server")
    assert len(chosen("time", "time", path)) == 2
    (server,) = chosen("uvx mcp-server-git@latest --repository .")
    assert (server.name, server.trusted) == ("mcp-server-git", False)
    for command, name in (
        ("npx -y @scope/server-files@1.2 /tmp", "server-files"),
        ("uv run server.py", "server"),
        ("/opt/bin/python3.12 -m mcp_server_time", "mcp_server_time"),
        ("node dist/index.mjs", "index"),
        ("docker run -i --rm mcp/time", "time"),
        ("my.server --port 3", "my.server"),
    ):
        assert chosen(command)[0].name == name
    (server,) = chosen("https://user:pw@host:80/mcp?key=1")
    assert (server.name, server.url[:18]) == ("host:80", "https://user:pw@ho")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("tim", r"There is no program 'tim', and no \[mcp.tim\] in .*mean time\?"),
        ("a.py", "There is no program 'a.py'.* A file of functions is --tool a.py;"),
        ("'a b", 'The command "\'a b" cannot be read: No closing quotation.'),
        (" ", "--mcp takes a command, a URL or a name."),
    ],
)
def test_what_names_no_server(file: Path, word: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        chosen(word)


def test_a_program_whose_path_has_blanks(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "my server"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    (server,) = chosen(str(path))
    assert (server.command, server.name) == ((str(path),), "myserver")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[mcp]\ntime = 'x'", 2, "servers are tables: [mcp.time] with a command or"),
        ("[mcp.a]\ncomand = 'x'", 2, "has no 'comand'. Did you mean command?"),
        ("[mcp.a]\ntimeout = 3", 1, "[mcp.a] needs a command or a url, and one of"),
        ("[mcp.a]\ncommand = 3", 2, "command is 3; an MCP server takes a command."),
        (
            "[mcp.a]\ncommand = 'x'\nargs = 'y'",
            3,
            "args is 'y'; an MCP server takes",
        ),
        ("[mcp.a]\ncommand = 'x'\nurl = 'http://x'", 1, "one of them only."),
        ("[mcp.a]\nurl = 'ftp://x'", 2, "takes a URL that begins with http:// or"),
        ("[mcp.a]\nurl = 'http://x'\ncwd = '.'", 3, "cwd is for a command."),
        ("[mcp.a]\ncommand = 'x'\nheaders = {}", 3, "headers is for a url."),
        ("[mcp.a]\ncommand = 'x'\nenv = {T = 7}", 3, "env is something else; an MCP"),
        ("[mcp.a]\ncommand = 'x'\ntimeout = 0", 3, "takes a number of seconds."),
        ("[mcp.a]\ncommand = 'x'\ntrusted = 1", 3, "takes true or false."),
        ('[mcp.a]\ncommand = "x \'y"', 2, "No closing quotation"),
    ],
)
def test_a_mistake_is_told_with_its_line(
    file: Path, typed: Typed, text: str, line: int, said: str
) -> None:
    file.write_text(text)
    code, out, err = typed("config show")
    assert (code, out) == (2, "")
    assert err.startswith(f"gemma4: {file}, line {line}: ") and said in err


def test_secrets_are_not_shown(file: Path, typed: Typed) -> None:
    for words in ("config show", "config show --json", "config show --origin"):
        code, out, err = typed(words)
        assert (code, err) == (0, "")
        assert "hush" not in out and "of mine" not in out
        assert out.count("${KEY}") == 2 and "Bearer" not in out
        assert "server-of-time" in out and "host/mcp" in out


def test_a_key_of_the_option(file: Path, typed: Typed) -> None:
    """`mcp` may also be what `--mcp` is given by default."""
    file.write_text('[chat]\nmcp = ["time"]\n[mcp.time]\ncommand = "x"\n')
    assert typed("config show")[0] == 0
    file.write_text('mcp = "time"\n')
    assert typed("config show")[:2] == (0, 'mcp = "time"\n')


def test_the_program_is_looked_up_where_the_server_is_started(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("#!/bin/sh\n")
    (tmp_path / "here").chmod(0o755)
    assert Server("x", ("./here",), cwd=tmp_path).program() == f"{tmp_path}/here"
    environ = {"PATH": f"{tmp_path}{os.pathsep}/nowhere"}
    assert Server("x", ("here",), env=environ).program() == f"{tmp_path}/here"
