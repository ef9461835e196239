"""An answer beside which nobody types is drawn anew once it goes on after Ctrl-Z."""

import signal

from scripted import chunks


def test_what_others_wrote_meanwhile_stays(session, script, monkeypatch):
    def answer(messages: list[dict]):
        first, *rest = chunks("one two three")
        yield first
        signal.raise_signal(signal.SIGCONT)
        yield from rest

    script.answer, drawn = answer, []
    monkeypatch.setattr(session.screen, "resumed", lambda: drawn.append("anew"))
    before = signal.getsignal(signal.SIGCONT)
    session.show_once(session.chat.ask("hi"))
    assert drawn == ["anew"]
    assert signal.getsignal(signal.SIGCONT) == before
