"""An agent with two tools: a house that does what it is told.

    python examples/agent.py "Turn on the kitchen light." "Set a timer for 10 minutes."

What the model calls is shown on stderr. With --ask it is run only after a yes. The
tools alone: gemma4 chat --tool examples/agent.py "Turn on the kitchen light."
"""

import argparse
import sys
from datetime import datetime, timedelta
from typing import Literal

from mlx_gemma4 import Chat, Tool, ToolCall, load, run_tools, tool

LIGHTS = {"kitchen": "off", "bedroom": "off", "office": "on"}
TIMERS: list[datetime] = []


@tool
def set_light(room: str, state: Literal["on", "off"]) -> dict[str, str]:
    """Switch a light.

    Args:
        room: The room.
        state: Either on or off.
    """
    if room not in LIGHTS:  # the model is told so, and may say so
        raise ValueError(f"there is no light in the {room}, but in {', '.join(LIGHTS)}")
    LIGHTS[room] = state
    return {"status": "ok"}


@tool
def set_timer(minutes: int) -> dict[str, str]:
    """Start a timer.

    Args:
        minutes: Length in minutes.
    """
    TIMERS.append(datetime.now() + timedelta(minutes=minutes))
    return {"status": "ok"}


def shown(called: Tool, call: ToolCall) -> bool:
    arguments = ", ".join(f"{name}={value!r}" for name, value in call.arguments.items())
    print(f"{call.name}({arguments})", file=sys.stderr)
    return True


def asked(called: Tool, call: ToolCall) -> bool:
    shown(called, call)
    print("Run it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("requests", nargs="+", help="one after the other")
    parser.add_argument("--ask", action="store_true", help="before anything is run")
    parser.add_argument("-m", "--model", default="demo")
    options = parser.parse_args()

    chat = Chat(*load(options.model), temperature=0)
    approve = asked if options.ask else shown
    for request in options.requests:
        answer = run_tools(chat, request, [set_light, set_timer], approve=approve)
        print(answer.text)
    print("Lights:", ", ".join(f"{room} {state}" for room, state in LIGHTS.items()))
    for due in TIMERS:
        print(f"A timer rings at {due:%H:%M}.")


if __name__ == "__main__":
    main()
