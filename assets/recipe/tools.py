"""Six tools: requests, the call each one asks for, results and spoken answers."""

from dataclasses import dataclass
from random import Random
from typing import Any

from .facts import CAPITALS
from .split import held_out
from .talk import NAMES

CITIES = (*CAPITALS.values(), "Zurich", "Boston", "Munich", "Naples", "Kyoto", "Porto")
ROOMS = ("kitchen", "bedroom", "bathroom", "hall", "office", "garage", "garden")
MUSIC = ("jazz", "rock", "pop", "blues", "folk", "soul", "opera", "techno")
KEYED_BY_WORDING = ("call_person", "play_music")
SKIES = ("sunny", "cloudy", "rainy", "windy", "foggy", "snowy")

Arguments = dict[str, str | int]


@dataclass(frozen=True)
class Tool:
    """A function the model may call, with several wordings of its description."""

    name: str
    descriptions: tuple[str, ...]
    parameters: dict[str, tuple[str, str]]  # name -> (type, description)
    requests: tuple[str, ...]


TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            "get_weather",
            (
                "Get the weather in a city.",
                "Get the current weather for a city.",
                "The weather in a place.",
            ),
            {"city": ("string", "Name of the city.")},
            (
                "What is the weather in {city}?",
                "What's the weather in {city}?",
                "How is the weather in {city}?",
                "What is the weather like in {city}?",
                "Tell me the weather in {city}.",
                "Weather in {city}?",
            ),
        ),
        Tool(
            "get_time",
            (
                "Get the time in a city.",
                "Get the current time in a city.",
                "The local time in a place.",
            ),
            {"city": ("string", "Name of the city.")},
            (
                "What time is it in {city}?",
                "What is the time in {city}?",
                "Tell me the time in {city}.",
                "Time in {city}?",
            ),
        ),
        Tool(
            "set_timer",
            ("Start a timer.", "Set a timer.", "Start a timer for some minutes."),
            {"minutes": ("integer", "Length in minutes.")},
            (
                "Set a timer for {minutes} minutes.",
                "Start a timer for {minutes} minutes.",
                "Timer for {minutes} minutes.",
                "Start a {minutes} minute timer.",
                "Please set a {minutes} minute timer.",
            ),
        ),
        Tool(
            "set_light",
            ("Switch a light.", "Turn a light on or off.", "Control the lights."),
            {
                "room": ("string", "The room."),
                "state": ("string", "Either on or off."),
            },
            (
                "Turn {state} the {room} light.",
                "Turn {state} the light in the {room}.",
                "Turn the {room} light {state}.",
                "Switch {state} the {room} light.",
                "Switch the light in the {room} {state}.",
            ),
        ),
        Tool(
            "call_person",
            ("Call a person.", "Make a phone call.", "Call someone on the phone."),
            {"name": ("string", "Who to call.")},
            ("Call {name}.", "Please call {name}.", "Phone {name}.", "Ring {name}."),
        ),
        Tool(
            "play_music",
            ("Play music.", "Play some music.", "Start music of a style."),
            {"style": ("string", "Style of music.")},
            (
                "Play {style}.",
                "Play some {style}.",
                "Play {style} music.",
                "I want to hear {style}.",
            ),
        ),
    )
}


@dataclass(frozen=True)
class Request:
    """A user's request with the call, what the tool answers and what is said then."""

    question: str
    tool: str
    arguments: Arguments
    result: dict[str, Any]
    plain: str
    answer: str


def schema(rng: Random, name: str) -> dict[str, Any]:
    """The tool's declaration in the OpenAI shape; wording and detail vary."""
    tool = TOOLS[name]
    described = rng.random() < 0.25
    properties: dict[str, dict[str, Any]] = {}
    for key, (kind, description) in tool.parameters.items():
        properties[key] = {"type": kind}
        if described:
            properties[key]["description"] = description
        if key == "state" and rng.random() < 0.25:
            properties[key]["enum"] = ["on", "off"]
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(tool.parameters),
    }
    function = {
        "name": name,
        "description": rng.choice(tool.descriptions),
        "parameters": parameters,
    }
    return {"type": "function", "function": function}


def _arguments(rng: Random, name: str) -> Arguments:
    if name in ("get_weather", "get_time"):
        return {"city": rng.choice(CITIES)}
    if name == "set_timer":
        return {"minutes": rng.randint(1, 99)}
    if name == "set_light":
        return {"room": rng.choice(ROOMS), "state": rng.choice(("on", "off"))}
    if name == "call_person":
        return {"name": rng.choice(NAMES)}
    return {"style": rng.choice(MUSIC)}


def _outcome(
    rng: Random, name: str, given: Arguments
) -> tuple[dict[str, Any], str, str]:
    """What the tool returns, the same in plain words, and the spoken answer."""
    if name == "get_weather":
        degrees, sky = rng.randint(1, 35), rng.choice(SKIES)
        result = {"condition": sky, "temperature": degrees}
        plain = rng.choice((f"{sky}, {degrees} degrees", f"{degrees} degrees, {sky}"))
        return result, plain, f"It is {sky} and {degrees} degrees in {given['city']}."
    if name == "get_time":
        clock = f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}"
        return {"time": clock}, clock, f"It is {clock} in {given['city']}."
    result, plain = {"status": "ok"}, rng.choice(("ok", "done", "Done."))
    if name == "set_timer":
        return result, plain, f"The timer is set for {given['minutes']} minutes."
    if name == "set_light":
        return result, plain, f"The {given['room']} light is {given['state']}."
    if name == "call_person":
        return result, plain, f"I am calling {given['name']}."
    return result, plain, f"I am playing {given['style']}."


def request(rng: Random, name: str, held: bool) -> Request:
    """A request whose combination is held out (`held`) or trained.

    The combination is tool x arguments: a city known from another tool, a number
    never set, a room x state. A name or a style belongs to one tool only, so there
    it is arguments x wording.
    """
    while True:
        given, wording = _arguments(rng, name), rng.choice(TOOLS[name].requests)
        parts = ["tool", name, *map(str, given.values())]
        if name in KEYED_BY_WORDING:
            parts.append(wording)
        if held_out("/".join(parts)) == held:
            break
    question = wording.format(**given)
    if rng.random() < 0.1:
        question = question[0].lower() + question[1:].rstrip(".?")
    return Request(question, name, given, *_outcome(rng, name, given))
