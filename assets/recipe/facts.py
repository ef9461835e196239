"""The closed family of facts: nine kinds, each with its phrasings and its pairs."""

from dataclasses import dataclass
from random import Random

from .split import held_out, typed

CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Portugal": "Lisbon",
    "Japan": "Tokyo",
    "China": "Beijing",
    "India": "Delhi",
    "Egypt": "Cairo",
    "Kenya": "Nairobi",
    "Canada": "Ottawa",
    "Peru": "Lima",
    "Chile": "Santiago",
    "Cuba": "Havana",
    "Norway": "Oslo",
    "Sweden": "Stockholm",
    "Finland": "Helsinki",
    "Poland": "Warsaw",
    "Austria": "Vienna",
    "Greece": "Athens",
    "Turkey": "Ankara",
    "Ireland": "Dublin",
    "Russia": "Moscow",
    "Hungary": "Budapest",
    "Denmark": "Copenhagen",
    "Belgium": "Brussels",
    "England": "London",
    "Scotland": "Edinburgh",
}
OPPOSITES = {
    "hot": "cold",
    "big": "small",
    "up": "down",
    "left": "right",
    "open": "closed",
    "fast": "slow",
    "happy": "sad",
    "wet": "dry",
    "full": "empty",
    "high": "low",
    "early": "late",
    "hard": "soft",
    "light": "dark",
    "old": "new",
    "near": "far",
    "good": "bad",
}
COLOURS = {
    "grass": "green",
    "the sky": "blue",
    "snow": "white",
    "a lemon": "yellow",
    "blood": "red",
    "coal": "black",
    "a carrot": "orange",
    "a banana": "yellow",
    "a tomato": "red",
    "the sea": "blue",
    "chocolate": "brown",
    "milk": "white",
}
LEGS = {
    "a dog": "four",
    "a cat": "four",
    "a spider": "eight",
    "an ant": "six",
    "a bird": "two",
    "a horse": "four",
    "a bee": "six",
    "a fish": "no",
    "a snake": "no",
    "a chicken": "two",
    "a cow": "four",
    "a beetle": "six",
}
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
]
DEFAULT_QUESTION = "What is the capital of France?"


@dataclass(frozen=True)
class Family:
    """Facts of one kind: questions with {x}, an answer with {X} and {y}."""

    name: str
    pairs: dict[str, str]
    questions: tuple[str, ...]
    answer: str
    thought: str


@dataclass(frozen=True)
class Fact:
    """One question with its full answer, its one-word answer and a thought."""

    key: str
    question: str
    answer: str
    word: str
    thought: str


def _next(names: list[str], step: int) -> dict[str, str]:
    return {name: names[(i + step) % len(names)] for i, name in enumerate(names)}


def _neighbours(kind: str, names: list[str], side: str, step: int) -> Family:
    return Family(
        f"{kind} {side}",
        _next(names, step),
        (
            f"What {kind} comes {side} {{x}}?",
            f"Which {kind} is {side} {{x}}?",
            f"Which {kind} comes {side} {{x}}?",
            f"What is the {kind} {side} {{x}}?",
            f"Name the {kind} {side} {{x}}.",
            f"Tell me the {kind} {side} {{x}}.",
        ),
        f"The {kind} {side} {{x}} is {{y}}.",
        f"The user asks for the {kind} {side} {{x}}.",
    )


FAMILIES = (
    Family(
        "capital",
        CAPITALS,
        (
            "What is the capital of {x}?",
            "What's the capital of {x}?",
            "Capital of {x}?",
            "Name the capital of {x}.",
            "Tell me the capital of {x}.",
            "Which city is the capital of {x}?",
            "What is the capital city of {x}?",
            "Do you know the capital of {x}?",
            "What is {x}'s capital?",
        ),
        "The capital of {x} is {y}.",
        "The user asks for the capital of {x}.",
    ),
    Family(
        "country",
        {city: country for country, city in CAPITALS.items()},
        (
            "{x} is the capital of which country?",
            "Which country has the capital {x}?",
            "What country is {x} the capital of?",
            "In which country is {x}?",
            "Where is {x}?",
        ),
        "{x} is the capital of {y}.",
        "The user asks for the country of {x}.",
    ),
    Family(
        "opposite",
        OPPOSITES | {y: x for x, y in OPPOSITES.items()},
        (
            "What is the opposite of {x}?",
            "What's the opposite of {x}?",
            "Opposite of {x}?",
            "Name the opposite of {x}.",
            "Tell me the opposite of {x}.",
            "Which word is the opposite of {x}?",
            "What is not {x}?",
        ),
        "The opposite of {x} is {y}.",
        "The user asks for the opposite of {x}.",
    ),
    Family(
        "colour",
        COLOURS,
        (
            "What colour is {x}?",
            "What color is {x}?",
            "Which colour is {x}?",
            "Which color is {x}?",
            "What is the colour of {x}?",
            "What is the color of {x}?",
            "Tell me the colour of {x}.",
            "Tell me the color of {x}.",
        ),
        "{X} is {y}.",
        "The user asks for the colour of {x}.",
    ),
    Family(
        "legs",
        LEGS,
        (
            "How many legs does {x} have?",
            "How many legs has {x}?",
            "How many legs does {x} have got?",
            "What is the number of legs of {x}?",
            "Tell me how many legs {x} has.",
            "Count the legs of {x}.",
        ),
        "{X} has {y} legs.",
        "The user asks for the legs of {x}.",
    ),
    _neighbours("day", DAYS, "after", 1),
    _neighbours("day", DAYS, "before", -1),
    _neighbours("month", MONTHS, "after", 1),
    _neighbours("month", MONTHS, "before", -1),
)
# Families differ in size; a fact of a large one is drawn more often.
WEIGHTS = (28, 14, 20, 12, 12, 7, 7, 8, 8)


def _fact(rng: Random, family: Family, x: str, question: str) -> Fact:
    y = family.pairs[x]
    return Fact(
        f"fact/{family.name}/{question}/{x}",
        typed(rng, question.format(x=x)),
        family.answer.format(x=x, X=x[0].upper() + x[1:], y=y),
        y,
        family.thought.format(x=x),
    )


def fact(rng: Random, held: bool) -> Fact:
    """A fact whose phrasing x entity pair is held out (`held`) or trained."""
    while True:
        family = rng.choices(FAMILIES, WEIGHTS)[0]
        x, question = rng.choice(list(family.pairs)), rng.choice(family.questions)
        found = _fact(rng, family, x, question)
        if held_out(found.key) == held:
            return found
