"""What `gemma4` says when something is wrong, and with which exit code."""

import errno
import json
import os
import shutil
import sys
import time
from types import SimpleNamespace

import pytest
from places import SHAPES

from mlx_gemma4 import errors
from mlx_gemma4.cli.app import run as run_here
from mlx_gemma4.cli.config.file import Configuration
from mlx_gemma4.cli.errors import InputError, UsageError, exit_code
from mlx_gemma4.cli.main import interrupt_again


def assert_fails(run, code: int, *said: str) -> None:
    """Failed with `code`, nothing on stdout, a line or two on stderr, no traceback."""
    assert run.returncode == code, run.stderr
    assert run.stdout == ""
    assert "Traceback" not in run.stderr
    assert len(run.stderr.strip().splitlines()) <= 3, run.stderr
    for words in said:
        assert words in run.stderr


@pytest.mark.parametrize(
    ("words", "said", "help_of"),
    [
        ("--foo", "No such option: --foo", "gemma4"),
        ("nothing", "No such command 'nothing'", "gemma4"),
        ("chat --tempature 1 hi", "--temperature", "gemma4 chat"),
        ("chat -m", "requires an argument", "gemma4 chat"),
        ("chat --track 2 hi", "files that --audio names", None),
        ("transcribe --track 0 a.wav", "--track is '0'", "gemma4 transcribe"),
        ("tune export a -m", "requires an argument", "gemma4 tune export"),
        ("tune export a --foo", "--foo", "gemma4 tune export"),
    ],
)
def test_a_slip_on_the_command_line(monkeypatch, capsys, words, said, help_of):
    monkeypatch.setattr(sys, "argv", ["/some where/main.py", *words.split()])
    assert run_here(as_json=False) == 2
    first, *hint = capsys.readouterr().err.splitlines()
    assert said in first
    assert hint == ([f"Try '{help_of} --help'."] if help_of else [])


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("chat -m ~no-such-user/x hi", 3),
        ("chat -m demo --adapter ~no-such-user/x hi", 3),
        ("doctor ~no-such-user/x", 3),
        ("convert ~no-such-user/x out", 3),
        ("tune ~no-such-user/t.jsonl -m demo -o out", 5),
        ("tune fuse ~no-such-user/a out", 3),
    ],
)
def test_the_home_of_nobody(monkeypatch, capsys, tmp_path, words, code):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gemma4", *words.split()])
    assert run_here(as_json=False) == code
    assert "~no-such-user/" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("chat -m ~ hi", 3),
        ("doctor ~", 3),
        ("convert ~ out", 3),
        ("convert demo ~", 2),
        ("chat -m demo --adapter ~ hi", 2),
        ("tune ~ -m demo -o out", 2),
    ],
)
def test_names_that_are_too_long(monkeypatch, capsys, tmp_path, words, code):
    monkeypatch.chdir(tmp_path)
    named = words.replace("~", "x" * 300)
    monkeypatch.setattr(sys, "argv", ["gemma4", *named.split()])
    assert run_here(as_json=False) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gemma4: ") and "x" * 40 in line


def test_missing_folder(gemma4):
    run = gemma4("chat", "-m", "./nowhere", "hi")
    assert_fails(run, 3, "nowhere")


@pytest.mark.slow
def test_hub_model_out_of_reach(gemma4):
    run = gemma4("chat", "-m", "google/gemma-4-E2B-it", "hi")
    assert_fails(run, 3, "google/gemma-4-E2B-it")


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors"])
def test_damaged_model(gemma4, demo_folder, damage):
    broken = gemma4.folder / "broken"
    shutil.copytree(demo_folder, broken)
    file = broken / damage
    file.write_bytes(file.read_bytes()[:100])
    assert_fails(gemma4("chat", "-m", "broken", "hi"), 3, damage)


def test_a_model_without_a_chat_template(gemma4, demo_folder):
    shutil.copytree(demo_folder, gemma4.folder / "base")
    (gemma4.folder / "base" / "chat_template.jinja").unlink()
    # Said before the weights are read: they are not even numbers.
    file = gemma4.folder / "base" / "model.safetensors"
    data = file.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    file.write_bytes(data[:start] + b"\xff" * (len(data) - start))
    assert_fails(gemma4("chat", "-m", "base", "hi"), 3, "chat_template.jinja")


def silent_run(gemma4, demo_folder, *command: str):
    """A command with the demo, whose chat template writes nothing."""
    shutil.copytree(demo_folder, gemma4.folder / "base")
    (gemma4.folder / "base" / "chat_template.jinja").write_text("{# nothing #}\n")
    return gemma4(*command, "-m", "base")


def test_a_chat_template_that_writes_nothing(gemma4, demo_folder):
    run = silent_run(gemma4, demo_folder, "chat", "hi")
    assert_fails(run, 3, "base/chat_template.jinja", "of the original model")


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [("describe", "a.png"), ("transcribe", "a.wav"), ("tune", "a.jsonl", "-o", "out")],
    ids=lambda command: command[0],
)
def test_other_commands_name_it_as_well(gemma4, demo_folder, command):
    shutil.copyfile(SHAPES, gemma4.folder / "a.png")
    (gemma4.folder / "a.wav").write_bytes(b"not looked at")
    line = '{"prompt": "a", "completion": "b"}\n'
    (gemma4.folder / "a.jsonl").write_text(line * 9)
    run = silent_run(gemma4, demo_folder, *command)
    assert_fails(run, 3, "base/chat_template.jinja", "of the original model")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("chat", "--colour", "hi"),
        ("chat", "--temperature", "-1", "hi"),
        ("chat", "--top-p", "1.5", "hi"),
        ("chat", "--max-tokens", "0", "hi"),
        ("chat", "--seed", "many", "hi"),
        ("chat", "one", "two"),
        ("sing",),
    ],
)
def test_wrong_usage(gemma4, arguments):
    assert_fails(gemma4(*arguments), 2, "--help")


@pytest.mark.slow
@pytest.mark.parametrize(
    "option",
    [
        ("--top-p", "0"),
        ("--min-p", "1"),
        ("--stop", ""),
        ("--seed", str(2**64)),
        ("--temperature", "nan"),
    ],
)
def test_values_are_refused_before_the_model_is_looked_for(gemma4, option):
    run = gemma4("chat", "-m", "./nowhere", *option, "hi")
    assert_fails(run, 2, option[0].strip("-").split("-")[0])


@pytest.mark.slow
@pytest.mark.parametrize("stdin", [None, "", " \n"])
def test_empty_prompt(gemma4, stdin):
    assert_fails(gemma4("chat", "-m", "demo", " ", stdin=stdin), 2, "empty")
    assert_fails(gemma4("chat", "-m", "demo", stdin=stdin), 2, "empty")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x89PNG\r\n\x1a\n rest", "a PNG picture; only text can be piped in. Pipe "),
        (b"\0\0\0\x18ftypisom", "an MP4 video; only text can be piped in. Pipe "),
        (b"%PDF-1.7", "a PDF document; only text can be piped in."),
        (b"caf\xe9 latin", "UTF-8"),
        (b"a\0b", "binary"),
    ],
)
def test_binary_input(gemma4, data, said):
    assert_fails(gemma4("chat", "-m", "demo", "hi", stdin=data), 5, said)


@pytest.mark.slow
@pytest.mark.parametrize(
    "content", [None, "{", "{}", "[]", "[3]", '[{"type": "x"}]', "[" * 100_000]
)
def test_bad_tools_file(gemma4, content):
    if content is not None:
        (gemma4.folder / "tools.json").write_text(content)
    run = gemma4("chat", "-m", "demo", "hi", "--tools", "tools.json")
    assert_fails(run, 5, "tools.json")


@pytest.mark.slow
def test_errors_hold_no_control_characters(gemma4):
    run = gemma4("chat", "--tools", "no\x1b]0;owned\x07where", "hi")
    assert_fails(run, 5, "no]0;ownedwhere")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("chat", "hi")])
def test_a_full_disk_is_said_in_a_line(gemma4, arguments):
    with open("/dev/full", "wb") as full:
        process = gemma4.start(*arguments, stdout=full.fileno())
    err = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 4
    told = "gemma4: nothing more can be written: No space left on device."
    assert err.splitlines()[-1] == told
    assert "Traceback" not in err and "Exception ignored" not in err


def test_ctrl_c_while_the_command_is_imported(gemma4):
    (gemma4.folder / "typer.py").write_text("raise KeyboardInterrupt")
    run = gemma4("--version")
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "(stopped)\n")


def test_ctrl_c_while_options_are_read(monkeypatch, capsys):
    def interrupted(path: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Configuration, "read", interrupted)
    monkeypatch.setattr(sys, "argv", ["gemma4", "list"])
    assert run_here(as_json=False) == 130
    assert capsys.readouterr().err == "(stopped)\n"


@pytest.mark.slow
def test_ctrl_c_within_a_callback_comes_again():
    lost = SimpleNamespace(exc_value=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        interrupt_again(lost)
        time.sleep(10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("-m", "./nowhere", "hi"), 3),
        (("-m", "demo", ""), 2),
        (("-m", "demo", "--top-p", "2", "hi"), 2),
    ],
)
def test_errors_as_json(gemma4, arguments, code):
    run = gemma4("chat", "--json", *arguments)
    assert (run.returncode, run.stdout) == (code, "")
    error = json.loads(run.stderr)["error"]
    assert set(error) == {"code", "message", "hint"}
    assert error["code"] == code and error["message"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (UsageError(), 2),
        (errors.ChatError(), 2),
        (errors.ModelNotFoundError(), 3),
        (errors.CheckpointError(), 3),
        (MemoryError(), 4),
        (RuntimeError("[metal::malloc] Attempting to allocate 9 bytes"), 4),
        (errors.DiskFullError(), 4),
        (OSError(errno.ENOSPC, "No space left on device"), 4),
        (InputError(), 5),
        (errors.MediaError(), 5),
        (RuntimeError("else"), 1),
        (ValueError("else"), 1),
        (OSError("else"), 1),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error, code):
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("file", "pip", "command"),
    [
        ("pipx_metadata.json", True, "pipx inject mlx-gemma4 'llguidance"),
        ("", False, "uv pip install --python "),
        ("", True, f"{sys.executable} -m pip install 'llguidance"),
    ],
)
def test_how_to_install_what_is_missing(monkeypatch, tmp_path, file, pip, command):
    (tmp_path / (file or "pyvenv.cfg")).touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    if not pip:
        monkeypatch.setitem(sys.modules, "pip", None)
    said = errors.install_command("json")
    assert said.startswith(command) and "llguidance" in said
    assert errors.install_command("mlx-lm").endswith(" mlx-lm")
