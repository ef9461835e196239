"""What /tools says."""

from ..chat.session import Answer, Session
from .approval import hint
from .opening import names
from .wording import visible


def tools_command(session: Session, words: str) -> Answer:
    """What the model may call, where it comes from, and who allows it."""
    screen, calls = session.screen, session.calls
    tools = calls.toolbox.tools.values() if calls is not None else ()
    for tool in tools:
        assert calls is not None
        about = [visible(tool.source), hint(tool), calls.approval.said(tool)]
        screen.note(f"{visible(tool.name)}: {', '.join(filter(None, about))}")
    declared = names(session.chat.declared or ())
    for name in declared:
        screen.note(f"{visible(name)}: --tools, is not run: you type its results")
    if not tools and not declared:
        screen.note("There are none. gemma4 chat --tool FILE.py gives the model some.")
    return None
