"""`--max-context`: what `/set` takes for it, and what a longer message is told."""

from scripted import Lines

from mlx_gemma4.cli.chat.interactive import converse


def test_set_takes_tokens(seeing, script, capsys):
    lines = (
        "/set max_context 0",
        "/set max_context 999999999",
        "/set max_context 5",
        "one",
    )
    converse(seeing, Lines(*lines, "/set max_context default", "two"))
    assert [asked.max_context for asked in script.asked] == [5, None]
    told = capsys.readouterr().err
    assert "max_context is 0; it must be a whole number from 1" in told
    assert "but this model reads at most" in told and "max_context = 5\n" in told
