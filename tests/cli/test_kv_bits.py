"""`--kv-bits`: what it may say, what becomes of it, and where it is told."""

import json
from dataclasses import replace

import pytest
from scripted import Lines, chunks

from mlx_gemma4.cli.chat.interactive import converse
from mlx_gemma4.cli.render import stats_line
from mlx_gemma4.cli.settings import Settings
from mlx_gemma4.errors import ChatError
from mlx_gemma4.generation.answer import Stats


def test_what_it_may_say():
    for bits, passed in ((None, None), (0, None), (8, 8)):
        settings = Settings(kv_bits=bits)
        settings.check()
        assert settings.options["kv_bits"] == passed
    with pytest.raises(ChatError, match="kv_bits is 4; it must be 8"):
        Settings(kv_bits=4).check()


def test_set_says_how_contexts_are_kept(session, script, capsys):
    lines = ("one", "/set kv_bits 8", "two", "/set kv_bits 4", "/show", "three")
    converse(session, Lines(*lines, "/set kv_bits default", "four"))
    assert [asked.kv_bits for asked in script.asked] == [None, 8, 8, None]
    prefixes = [asked.prefix for asked in script.asked]
    assert [prefix.kv_bits for prefix in prefixes] == [None, 8, 8, None]
    assert prefixes[1] is prefixes[2]  # what was read is read again only once
    told = capsys.readouterr().err
    assert "kv_bits = 8\n" in told and "settings: kv_bits 8\n" in told
    assert "kv_bits is 4; it must be 8" in told


def test_statistics_and_json_tell_of_it(session, script, capsys):
    assert stats_line(Stats(3, 0, 1, kv_bits=8)).endswith(" · 8-bit context")
    assert "context" not in stats_line(Stats(3, 0, 1))
    (last,) = chunks("word")
    assert last.stats is not None
    stats = replace(last.stats, kv_bits=8)
    session.screen.as_json = True
    script.answer = lambda messages: [replace(last, stats=stats)]
    converse(session, Lines("one"))
    assert json.loads(capsys.readouterr().out)["kv_bits"] == 8


@pytest.mark.slow
def test_from_the_command_line(gemma4):
    done = gemma4("chat", "-m", "demo", "--kv-bits", "8", "--stats", "Hi")
    assert done.returncode == 0 and "8-bit context" in done.stderr
    gemma4.environ["GEMMA4_KV_BITS"] = "8"
    for words, told in ((["--kv-bits", "0"], None), ([], 8)):
        done = gemma4("chat", "-m", "demo", *words, "--json", "Hi")
        assert json.loads(done.stdout)["kv_bits"] == told
    done = gemma4("chat", "-m", "no/such", "--kv-bits", "4", "Hi")
    assert (done.returncode, done.stdout) == (2, "") and "25 % off" in done.stderr
